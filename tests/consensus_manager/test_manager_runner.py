"""`consensus_manager` under the real runner, in memory: several nodes on one network stream, killed between any two blocks."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import pytest
from dkg_kit import CHAIN, identity, wallet
from manager_world import KeptSecrets, block_hash

from messages.chain_api import BlockImported
from messages.codec import encode, encode_value
from messages.consensus_manager import Deal, Epoch, EpochReport, GroupTransaction, Opened
from messages.polkadot import Scheme, Validator
from messages.signals import BestChain, BlockRef, SessionChange
from overseer.runner.observer import Step
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.worlds import MemoryWorld
from subsystems.consensus_manager.config import ConsensusConfig, Enrolled
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.subsystem import ConsensusManager
from subsystems.consensus_manager.tables import MINE

pytestmark = pytest.mark.anyio

COUNT = 4


class Nodes:
    def __init__(self, nodes: Sequence[VirtualOverseer]) -> None:
        self.nodes = nodes
        self.number = 0
        # How many were killed, and those for whom no kill is set.
        self.killed = 0
        self.safe = list(nodes)

    async def mine(self, *transactions: bytes) -> None:
        self.number += 1
        block = BlockImported(
            hash=block_hash(self.number),
            parent=block_hash(self.number - 1),
            number=self.number,
            session=0,
            backed=[],
            included=[],
            blacklisted=False,
            round=self.number,
            group_transactions=list(transactions),
        )
        for node in self.nodes:
            await node.inject(block, sender="chain_api")
            await node.signal(BestChain(reverted=[], applied=[BlockRef(block.hash, block.number)]))

    async def settled(self) -> None:
        """What one says the others hear, who say something then: until nobody says anything. Who was killed is started again."""
        said, died = -1, True
        while died or said != (said := sum([len(await node.sent()) for node in self.nodes])):
            died = False
            for node in self.nodes:
                try:
                    await node.settled()
                except AssertionError:
                    assert not node.running, node.witness.troubles
                    died = True
                    self.killed += 1
                    self.safe.append(node)
                    await node.start()

    async def transaction(self) -> bytes | None:
        found = {encode(m) for node in self.nodes for m in await node.sent(GroupTransaction)}
        assert len(found) <= 1
        return next(iter(found), None)

    async def epochs(self) -> set[tuple[int, int]]:
        # Who was killed with its last acknowledgement is started again.
        await self.settled()
        reports = [await node.ask(Epoch()) for node in self.nodes]
        return {(report.epoch, report.epoch_start) for report in reports if isinstance(report, EpochReport)}


@pytest.fixture
async def nodes(memory_world: MemoryWorld) -> AsyncIterator[Nodes]:
    config = ConsensusConfig(
        chain=CHAIN,
        parameters=Parameters(interval=5, min_confirmations=3),
        enrolled=tuple(Enrolled(signing=identity(n).signing, box=identity(n).box) for n in range(COUNT)),
    )
    async with AsyncExitStack() as stack:
        made: list[VirtualOverseer] = []
        for number in range(COUNT):
            subsystem = ConsensusManager(config, KeptSecrets(number))
            node = await stack.enter_async_context(VirtualOverseer(subsystem, memory_world, node=f"n{number}"))
            await node.start()
            await node.signal(SessionChange(index=0, validators=[Validator(identity(n).signing, Scheme.ED25519) for n in range(COUNT)]))
            made.append(node)
        yield Nodes(made)


async def elected(nodes: Nodes, between: Callable[[], object] | None = None) -> bytes:
    for _ in range(8):
        await nodes.mine()
        if between is not None:
            await between()  # type: ignore[misc]
        await nodes.settled()
    transaction = await nodes.transaction()
    assert transaction is not None
    await nodes.mine(transaction)
    await nodes.settled()
    return transaction


async def test_a_network_elects_a_group_and_everything_follows_from_the_journals(nodes: Nodes) -> None:
    await elected(nodes)
    assert await nodes.epochs() == {(1, 9)}
    for node in nodes.nodes:
        assert (await node.verify()).ok
        assert len(await node.sent(Opened)) == 1


async def test_R8_all_members_killed_behind_every_block_complete_the_attempt_and_deal_once(nodes: Nodes) -> None:
    async def kill_all() -> None:
        for node in nodes.nodes:
            await node.kill()
        for node in nodes.nodes:
            await node.start()

    await elected(nodes, kill_all)
    assert await nodes.epochs() == {(1, 9)}
    for node in nodes.nodes:
        assert len({deal.signature for deal in await node.sent(Deal)}) == 1
        assert (await node.verify()).ok


@pytest.mark.parametrize("times", [1, 2, 4])
@pytest.mark.parametrize("step", list(Step))
async def test_R8_nodes_killed_at_any_step_of_the_runner_again_and_again_elect_all_the_same(nodes: Nodes, step: Step, times: int) -> None:
    async def deadly() -> None:
        for node in nodes.safe:
            node.kill_at(step, times)
        nodes.safe.clear()

    await elected(nodes, deadly)
    assert nodes.killed
    assert await nodes.epochs() == {(1, 9)}
    for node in nodes.nodes:
        assert len({deal.signature for deal in await node.sent(Deal)}) == 1
        assert (await node.verify()).ok


async def test_the_journal_and_the_tables_hold_secrets_only_sealed(nodes: Nodes) -> None:
    await elected(nodes)
    for number, node in enumerate(nodes.nodes):
        records = b"".join(encode_value(event) for event in node.events())
        rows = [mine for _, mine in node.view().scan(MINE)]
        assert rows
        own = wallet(number)
        for row in rows:
            assert row.seed is not None
            assert row.share is not None
            shown = records + encode_value(row)
            seeds = [own.unseal(row.seed, session + b"seed") for (session,), _ in node.view().scan(MINE)]
            shares = [own.unseal(row.share, session + b"share") for (session,), _ in node.view().scan(MINE)]
            opened: list[Secret[bytes]] = [secret for secret in (*seeds, *shares) if secret is not None]
            assert len(opened) == 2
            assert all(secret.reveal() not in shown for secret in opened)
