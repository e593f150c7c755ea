"""A fork that is so much longer than the chain that the nodes forget what they had signed of the chain; then it is blacklisted."""

from collections.abc import Sequence

import anyio
import msgspec
import pytest

from messages.chain_api import Best, Header, ImportBlock
from messages.consensus_blocks import BlockProposed, BlockSignature, BlockSignatureReport, NextBlock, NextBlockReport
from messages.polkadot import VoteKind
from messages.scale import candidate_hash
from overseer.cli.common import load_settings
from overseer.consensus.chain import SESSION, hash_of, make_next
from overseer.feeds.make import make_bundle, make_receipt
from overseer.node.client import Client
from overseer.node.testnet import keyring_of
from tests.consensus.testnets import NetworkRun, network_up
from tests.node.nodes import Place, answered, told

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow]

NODES = ("n1", "n2", "n3", "n4")
# More than the heights for which a node keeps what it signed.
LONG = 20
CANDIDATE = make_receipt(bytes([7]) * 32, para_id=2_000, relay_parent=bytes(32))


def fork(place: NextBlockReport) -> list[ImportBlock]:
    """Twice as many blocks as make a node forget, that no group signs; the first includes the candidate."""
    blocks: list[ImportBlock] = []
    parent = place.parent
    for number in range(place.number, place.number + 2 * LONG):
        block = make_next(parent, number, epoch=place.epoch, epoch_start=place.epoch_start, validators=())
        if not blocks:
            block = msgspec.structs.replace(block, included=[candidate_hash(CANDIDATE)])
            block = msgspec.structs.replace(block, hash=hash_of(block))
        blocks.append(block)
        parent = block.hash
    return blocks


async def next_of(client: Client) -> NextBlockReport:
    report = await answered(client, NextBlock())
    assert isinstance(report, NextBlockReport)
    return report


async def lead(clients: dict[str, Client], nodes: Sequence[str], blocks: Sequence[ImportBlock]) -> None:
    """Hand these blocks to these nodes, until their consensus managers have them for the best."""
    for name in nodes:
        for block in blocks:
            await told(clients[name], block, f"{name} {block.hash.hex()}")
        with anyio.fail_after(30):
            while (await next_of(clients[name])).parent != blocks[-1].hash:
                await anyio.sleep(0.02)


async def half_signed(net: NetworkRun, clients: dict[str, Client]) -> tuple[NextBlockReport, list[ImportBlock]]:
    """Two nodes follow a fork, and the other two sign the chain's next block, which is not enough. The place of the fork, and the fork."""

    async def signed() -> bool:
        return (await next_of(clients["n1"])).signed

    await net.until(signed, "a group signs the blocks")
    place = await next_of(clients["n1"])
    blocks = fork(place)
    # Longer than the chain can become: its next block may be signed before they follow, but not the one after it.
    await lead(clients, ("n1", "n2"), blocks[:3])

    async def waits() -> bool:
        proposed = (await net.blocks(BlockProposed))[-1][0].hash
        reports = [await answered(clients[name], BlockSignature(block=proposed)) for name in ("n3", "n4")]
        return all(isinstance(report, BlockSignatureReport) and (report.needed, report.parts) == (3, 2) for report in reports)

    await net.until(waits, "two have signed the next block, of three that are needed")
    return place, blocks


async def test_a_fork_that_was_far_ahead_is_blacklisted_and_the_block_that_was_half_signed_before_it_is_signed(here: Place) -> None:
    settings = {"consensus_manager__interval": 5, "consensus_manager__min_confirmations": 3}
    async with network_up(here, "--interval-ms", "1000", **settings) as net, net.clients(*NODES) as clients:
        place, blocks = await half_signed(net, clients)
        await lead(clients, NODES, blocks)
        keyring = keyring_of({name: load_settings(data_dir=net.folder / name) for name in NODES})
        ballots = [(0, VoteKind.BACKING_SECONDED), *((index, VoteKind.EXPLICIT_INVALID) for index in (1, 2, 3))]
        await told(clients["n1"], make_bundle(keyring, CANDIDATE, ballots, session=SESSION, block_number=place.number), "votes")
        forked = {block.hash for block in blocks}
        for name in NODES:

            async def goes_on(name: str = name) -> bool:
                best = await answered(clients[name], Best())
                return isinstance(best, Header) and best.hash not in forked and best.number >= place.number + 2

            await net.until(goes_on, f"{name} goes on without the fork")
