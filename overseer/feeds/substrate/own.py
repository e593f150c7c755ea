"""The feed's own node: what it holds already, and commands told to it until their outcome is known, each under an id of its own."""

from collections.abc import AsyncIterator, Callable, Collection
from hashlib import blake2b

import anyio

from messages.chain_api import DescendantsOf, Finalized, FinalizedHash, GetHeader, Hashes, Header, IncludedIn, Session
from messages.message import Message
from messages.overseer import CommandOutcome
from overseer.node.client import Client, Refused
from overseer.observe.logs import Waits, logger
from overseer.ports.bus import BusError

__all__ = ["ACCEPTED", "OwnNode"]

ACCEPTED = "accepted"
# A refusal that may pass, or a bus that is away: asked again, slower and slower.
_PAUSE_S = 0.05
_PAUSE_S_MAX = 2.0
# Refusals of an endpoint, which say nothing of the command: the same id is used again, as its outcome may be known by now.
_UNTOLD = ("busy", "timeout")


class OwnNode:
    """Asks and tells. Never raises for what passes: it waits, and says so by `waits` (and "" when it goes on)."""

    def __init__(self, client: Client, genesis: bytes, waits: Callable[[str], None]) -> None:
        self._client = client
        self._genesis = genesis
        self._waits = waits
        self._told = Waits(logger("feed"))

    # -------------------------------------------------------------------------------------------- commands

    async def tell(self, command: Message, *what: bytes, passing: Collection[str] = ()) -> tuple[str, CommandOutcome | None]:
        """`accepted` and the outcome, or the code of a refusal that stays, or of one that passes and is not to be waited for (`passing`).

        `what` tells the command from others of this chain: sent again, it is the same command, and happens once.
        """
        name, attempt, pause_s = self._command_id(command, *what), 0, _PAUSE_S
        while True:
            why = ""
            try:
                outcome = await self._client.request(command, command_id=f"{name}.{attempt}")
                self._settled()
                return ACCEPTED, outcome
            except Refused as refused:
                if not refused.retriable or refused.code in passing:
                    self._settled()
                    return refused.code, None
                # A refusal is this id's outcome for good.
                attempt += refused.code not in _UNTOLD
                why = str(refused)
            except BusError as error:
                why = str(error)
            pause_s = await self._pause(pause_s, why)

    def _command_id(self, command: Message, *what: bytes) -> str:
        """By chain, kind, and what it is about."""
        digest = blake2b(digest_size=16, person=b"substrate feed")
        for part in (self._genesis, command.spec.key.encode(), *what):
            digest.update(len(part).to_bytes(4, "little") + part)
        return f"substrate.{digest.hexdigest()}"

    async def _pause(self, pause_s: float, why: str) -> float:
        if pause_s >= _PAUSE_S_MAX:
            self._waits(why[:300])
            self._told.tell(why[:300])
        await anyio.sleep(pause_s)
        return min(2 * pause_s, _PAUSE_S_MAX)

    def _settled(self) -> None:
        self._waits("")
        self._told.tell("")

    # -------------------------------------------------------------------------------------------- queries

    async def _ask(self, query: Message) -> Message | None:
        """The answer; None when it is refused for good (unknown)."""
        pause_s = _PAUSE_S
        while True:
            try:
                answer = await self._client.query(query)
                self._settled()
                return answer
            except Refused as refused:
                if not refused.retriable:
                    self._settled()
                    return None
                why = str(refused)
            except BusError as error:
                why = str(error)
            pause_s = await self._pause(pause_s, why)

    async def finalized(self) -> Header:
        answer = await self._ask(Finalized())
        assert isinstance(answer, Header)
        return answer

    async def finalized_hash(self, number: int) -> bytes | None:
        answer = await self._ask(FinalizedHash(number=number))
        return answer.hash if isinstance(answer, Header) else None

    async def header(self, block: bytes) -> Header | None:
        answer = await self._ask(GetHeader(hash=block))
        return answer if isinstance(answer, Header) else None

    async def knows_session(self, session: int) -> bool:
        return await self._ask(Session(index=session)) is not None

    async def descendants(self, block: bytes) -> AsyncIterator[bytes]:
        """All of them, on every fork, parents before children."""
        cursor: bytes | None = None
        while True:
            page = await self._ask(DescendantsOf(hash=block, cursor=cursor))
            if not isinstance(page, Hashes):
                return
            for each in page.hashes:
                yield each
            if page.next is None or not page.hashes:
                return
            cursor = page.hashes[-1]

    async def including(self, candidate: bytes) -> list[bytes]:
        """Blocks that included it: the first page of them."""
        answer = await self._ask(IncludedIn(candidate=candidate))
        return answer.hashes if isinstance(answer, Hashes) else []
