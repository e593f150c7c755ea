"""A process that floods a node as one operator: signed bundles, single votes, wrong signatures, rubbish; raw or awaited.

Run by `tests.load.flood`. It offers so many messages a second, many in flight, and never waits for a refusal to pass. What the
stream acknowledged it writes into a file, a line `<command id> <sequence> <bundle>` each; what it counted goes to stdout as JSON.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import anyio
import msgspec

from messages.codec import decode, encode
from messages.message import Message
from messages.overseer import CommandOutcome
from messages.scale import candidate_hash
from messages.subjects import HEADER_COMMAND_ID, build, headers_of, request_subject
from messages.votes_db import RegisterVote
from overseer.cli.common import load_settings
from overseer.nats.accounts import operator_sender
from overseer.nats.exchange import NatsExchange
from overseer.node.bus import connected_as
from overseer.node.folder import NodeFolder
from overseer.ports.bus import BusError, Outgoing
from tests.node.nodes import Ballots, ballots

__all__ = ["FORGED", "RUBBISH", "VALIDATORS", "bodies", "good_ballots", "kept_bundles"]

VALIDATORS = 20
OPERATOR = "operator"
# In the place of a bundle that counts.
FORGED, RUBBISH = -1, -2
# Messages of a flood; under other command ids they come again and again.
_DIFFERENT = 4_000
# Of ten messages: bundles that count, bundles and single votes with wrong signatures, what cannot be read.
_KINDS = ("good", "forged", "forged", "forged", "forged", "forged", "single", "single", "single", "rubbish")


def good_ballots(count: int, kept: Path) -> Ballots:
    """What counts; the bundles are kept in a file, as signing them takes long."""
    made = ballots(count, VALIDATORS)
    kept.write_bytes(msgspec.json.encode([encode(bundle) for bundle in made.bundles]))
    return made


def kept_bundles(kept: Path) -> list[RegisterVote]:
    """Those of `good_ballots`."""
    decoded = [decode(RegisterVote.spec, data) for data in msgspec.json.decode(kept.read_bytes(), type=list[bytes])]
    return [bundle for bundle in decoded if isinstance(bundle, RegisterVote)]


def bodies(made: list[RegisterVote], first: int) -> Callable[[int], tuple[bytes, int]]:
    """Message n of a flood: its body, and which bundle it is when it counts (else FORGED or RUBBISH). They come around again."""
    single = msgspec.structs.replace(made[0], explicit_votes=made[0].explicit_votes[:1])

    def forged(like: RegisterVote, number: int) -> bytes:
        receipt = msgspec.structs.replace(
            like.candidate, descriptor=msgspec.structs.replace(like.candidate.descriptor, para_id=1_000_000 + first + number)
        )
        return encode(msgspec.structs.replace(like, candidate=receipt, candidate_hash=candidate_hash(receipt)))

    def body(number: int) -> tuple[bytes, int]:
        kind = _KINDS[number % len(_KINDS)]
        if kind == "good":
            place = number // len(_KINDS) % len(made)
            return encode(made[place]), place
        if kind == "rubbish":
            return number.to_bytes(8, "big") * 64, RUBBISH
        return forged(single if kind == "single" else made[number % len(made)], number), FORGED

    # Made before: a flooder that makes its messages meanwhile is no flood.
    ready = [body(number) for number in range(_DIFFERENT)]
    return lambda number: ready[number % _DIFFERENT]


class Flood:
    """Sends at a rate. `taken` is written to as the stream acknowledges."""

    def __init__(self, exchange: NatsExchange, node: str, taken: TextIO, *, raw: bool, name: str) -> None:
        self.count: Counter[str] = Counter()
        self._exchange = exchange
        self._taken = taken
        self._name = name
        self._send = self._publish if raw else self._request
        spec = RegisterVote.spec
        self._subject = build(node, operator_sender(OPERATOR), spec) if raw else request_subject(node, spec)
        self._headers = headers_of(spec)

    async def run(self, body: Callable[[int], tuple[bytes, int]], *, rate: float, seconds: float, in_flight: int) -> float:
        """Returns how long it took."""
        began = time.monotonic()
        slots = anyio.CapacityLimiter(in_flight)
        number = 0
        async with anyio.create_task_group() as tasks:
            while (now := time.monotonic() - began) < seconds:
                due = int(now * rate)
                while number < due and slots.available_tokens > 0 and time.monotonic() - began < seconds:
                    slots.acquire_on_behalf_of_nowait(number)
                    tasks.start_soon(self._one, number, body, slots)
                    number += 1
                if number < due and slots.available_tokens <= 0:
                    self.count["waited for a slot"] += 1
                await anyio.sleep(0.001)
        self.count["offered"] = number
        return time.monotonic() - began

    async def _one(self, number: int, body: Callable[[int], tuple[bytes, int]], slots: anyio.CapacityLimiter) -> None:
        try:
            data, place = body(number)
            command_id = f"{self._name} {number}"
            await self._send(command_id, data, place)
        except BusError as error:
            self.count[f"{type(error).__name__}"] += 1
        finally:
            slots.release_on_behalf_of(number)

    async def _publish(self, command_id: str, data: bytes, place: int) -> None:
        sequence = await self._exchange.publish(Outgoing(self._subject, {**self._headers, HEADER_COMMAND_ID: command_id}, data))
        self._note(command_id, sequence, place)

    async def _request(self, command_id: str, data: bytes, place: int) -> None:
        response = await self._exchange.request(self._subject, data, {**self._headers, HEADER_COMMAND_ID: command_id}, 15_000)
        if response.error is None or response.error[0] == "409":
            outcome: Message = decode(CommandOutcome.spec, response.body)
            assert isinstance(outcome, CommandOutcome)
            self._note(command_id, outcome.sequence, place if response.error is None else FORGED)
        else:
            self.count[f"refused {response.error[1]}"] += 1

    def _note(self, command_id: str, sequence: int, place: int) -> None:
        self.count["acknowledged"] += 1
        self._taken.write(f"{command_id} {sequence} {place}\n")


async def main(given: argparse.Namespace) -> None:
    config = load_settings(data_dir=given.data).config
    url = NodeFolder(config.data_dir).last_run().url
    messages = bodies(kept_bundles(given.bundles), given.first)
    async with connected_as(config, url, OPERATOR) as connection:
        with given.taken.open("w") as taken:
            flood = Flood(NatsExchange(connection), config.node, taken, raw=given.raw, name=given.name)
            # From here on it floods: whoever started it measures from this line.
            print("ready", flush=True)
            took = await flood.run(messages, rate=given.rate, seconds=given.seconds, in_flight=given.in_flight)
    print(json.dumps({**flood.count, "seconds": took}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--taken", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--bundles", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--in-flight", type=int, default=8_192)
    parser.add_argument("--raw", action="store_true")
    anyio.run(main, parser.parse_args(sys.argv[1:]))
