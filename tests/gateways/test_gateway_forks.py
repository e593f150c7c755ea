"""Courses of a queue beside the real chain: forks, blacklists, finality, governance mode; each subsystem at its own pace."""

import pytest
from nacl.signing import SigningKey
from queue_story import QUEUE, Story, digest
from test_gateway_properties import TINY, Course

from messages.chain_api import AncestorsOf, Best, Blacklist, FinalizeBlock, GovernanceStatus, ImportBlock, IsBlacklisted, Resume, ResumeMode
from messages.elections import OfElection
from messages.gateways import OpenQueue, RoundPhase
from messages.governance import resume_payload
from messages.message import Message
from messages.polkadot import DisputeRef
from overseer.testing.given import Then
from overseer.testing.wired import Wired
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.gateways.rows import BALLOTS
from subsystems.elections.rows import key_hash
from subsystems.elections.subsystem import Elections

GENESIS = digest("genesis")
AUTHORITY = SigningKey(digest("authority"))


class Beside(Story):
    """A queue whose chain is a real one: `reach` imports blocks, and what becomes best is the chain's to say."""

    def __init__(self, seed: int) -> None:
        chain = ChainApi(ChainConfig(genesis=GENESIS, governance_authority=bytes(AUTHORITY.verify_key), best_page=3, mark_step=2))
        elections = Elections(ElectionsConfig(gateways=TINY, chain_steps_max=2))
        self.node = Wired([chain, elections], seed=seed)
        self.given = self.node.given["elections"]
        self.blocks = 0
        self.done(OpenQueue(election=QUEUE))

    @property
    def best(self) -> tuple[int, bytes]:
        header = self.node.ask(Best())
        return header.number, header.hash  # type: ignore[union-attr]

    @property
    def height(self) -> int:
        return self.best[0]

    def when(self, message: Message) -> Then:
        if isinstance(message, OfElection):
            return self.node.send(message, settle=False)
        self.node.append(message, sender="chain_api")
        return Then()

    def reach(self, height: int, branch: str = "a", *, keep: int | None = None, settle: bool = True) -> Then:
        """Blocks on the best chain, or on one of its ancestors."""
        at, parent = self.best
        back = at - (at if keep is None else keep)
        if back:
            parent = (self.node.ask(AncestorsOf(hash=parent, k=back)).hashes or [GENESIS])[-1]  # type: ignore[union-attr]
        for number in range(at - back + 1, height + 1):
            self.blocks += 1
            block = ImportBlock(hash=digest(f"{number} {self.blocks}"), parent=parent, number=number, session=0)
            self.node.send(block, settle=False)
            parent = block.hash
        if settle:
            self.node.settle()
        return Then()

    def blacklist(self, back: int) -> None:
        """The block so far behind the best one, and so all on it."""
        _, block = self.best
        hashes = self.node.ask(AncestorsOf(hash=block, k=back)).hashes  # type: ignore[union-attr]
        root = [block, *hashes][back] if back <= len(hashes) else GENESIS
        if root != GENESIS:
            cause = DisputeRef(session=0, candidate=digest(f"lie {self.blocks}"))
            self.node.append(Blacklist(roots=[root], cause=cause), sender="dispute_conclusion")

    def finalize(self, back: int) -> None:
        _, block = self.best
        hashes = self.node.ask(AncestorsOf(hash=block, k=back)).hashes  # type: ignore[union-attr]
        if len(hashes) >= back:
            self.node.send(FinalizeBlock(hash=[block, *hashes][back]), settle=False)

    def leave_governance(self) -> None:
        status = self.node.ask(GovernanceStatus())
        entry, frozen_at = status.entry, status.frozen_at  # type: ignore[union-attr]
        if frozen_at is not None:
            mode = ResumeMode.ABANDON
            payload = resume_payload(mode, chain=GENESIS, entry=entry, frozen_at=frozen_at, roots=[])
            signature = AUTHORITY.sign(payload).signature
            self.node.send(Resume(mode=mode, chain=GENESIS, entry=entry, frozen_at=frozen_at, roots=[], signature=signature))


class BesideCourse(Course):
    """As a course, with what a real chain does."""

    story: Beside

    def make(self) -> Beside:
        return Beside(self.chance.randint(0, 10**6))

    def reorganise(self) -> None:
        if self.chance.random() < 0.6:
            self.story.blacklist(self.chance.randint(0, 12))
        back = min(self.story.height, self.chance.randint(0, 6))
        keep = self.story.height - back
        self.story.reach(keep + self.chance.randint(0, 13), keep=keep, settle=self.chance.random() < 0.7)

    def governance(self) -> None:
        """Finality follows; a final block that is bad begins governance mode."""
        self.story.finalize(self.chance.randint(3, 15))
        if self.chance.random() < 0.5:
            self.story.leave_governance()

    def what_serves_stands(self) -> None:
        """When everybody has heard everything: what stands is on the best chain, and not blacklisted, as the chain itself says."""
        node = self.story.node
        node.settle()
        number, block = self.story.best
        line = {number: block} | {number - n: h for n, h in enumerate(node.ask(AncestorsOf(hash=block, k=number)).hashes, 1)}  # type: ignore[union-attr]
        for (_, ballot), row in self.story.given.view.scan(BALLOTS, (key_hash(QUEUE),)):
            if row.phase in (RoundPhase.REVOKED, RoundPhase.REVOKING):
                assert (row.phase, row.assigned) == (RoundPhase.REVOKED, 0)
                continue
            for ref in filter(None, (row.cut, row.close)):
                assert line.get(ref.number) == ref.hash, ballot
                assert not node.ask(IsBlacklisted(hash=ref.hash)).blacklisted  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_chain_does_what_serves_is_on_the_best_chain_and_nothing_is_lost(seed: int) -> None:
    BesideCourse(seed).run(100)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 300))
def test_many_more_courses_beside_the_chain(seed: int) -> None:
    BesideCourse(seed).run(150)
