"""Random trees and messages against a slow model that knows only definitions."""

from collections.abc import Iterator

from chain_story import GENESIS, Story, cause, digest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.chain_api import Blacklist, FinalizeBlock, GovernanceStatus, LiftRevert, ResumeMode, Revert
from overseer.testing.given import Then
from subsystems.chain_api.tables import READY, STATE

MAX_BLOCKS = 24


class Model:
    """What the chain is by definition: everything is computed from the set of imported blocks."""

    def __init__(self) -> None:
        self.parents: dict[bytes, bytes] = {}
        self.waiting: dict[bytes, bytes] = {}
        self.numbers: dict[bytes, int] = {GENESIS: 0}
        self.convicted: set[bytes] = set()
        self.reverted: set[tuple[bytes, str]] = set()
        self.finalized = GENESIS
        self.frozen_at: int | None = None

    def import_block(self, block: bytes, parent: bytes) -> None:
        if block in self.numbers or block in self.waiting:
            return
        if parent not in self.numbers:
            self.waiting[block] = parent
            return
        self.parents[block] = parent
        self.numbers[block] = self.numbers[parent] + 1
        for orphan, above in list(self.waiting.items()):
            if above == block:
                del self.waiting[orphan]
                self.import_block(orphan, above)

    def line(self, block: bytes) -> Iterator[bytes]:
        """The block and its ancestors."""
        yield block
        while block != GENESIS:
            block = self.parents[block]
            yield block

    def blacklisted(self) -> set[bytes]:
        return {block for block in self.numbers if any(b in self.convicted for b in self.line(block))}

    def leaves(self) -> set[bytes]:
        good = set(self.numbers) - self.blacklisted()
        with_child = {self.parents[b] for b in good if b != GENESIS}
        above = {b for b in good if self.numbers[b] > self.numbers[self.finalized] or b == self.finalized}
        return (above - with_child) - {GENESIS}

    def best(self) -> bytes:
        stopped = {block for block, _ in self.reverted}
        bad = self.blacklisted() | {b for b in self.numbers if any(a in stopped for a in self.line(b))}
        if self.frozen_at is not None:
            return next(b for b in self.line(self.finalized) if self.numbers[b] <= self.frozen_at and b not in bad)
        if self.finalized in bad:
            return next(b for b in self.line(self.finalized) if b not in bad)
        viable = [b for b in self.numbers if b not in bad and self.finalized in self.line(b)]
        return max(viable, key=lambda b: (self.numbers[b], b))

    def freeze(self) -> None:
        bad = [self.numbers[b] for b in self.line(self.finalized) if b in self.convicted]
        if bad:
            self.frozen_at = min([min(bad) - 1, *([] if self.frozen_at is None else [self.frozen_at])])


class Run:
    """The subsystem and the model, told the same."""

    def __init__(self, shape: list[int]) -> None:
        self.story = Story(mark_step=2, adopt_step=2, leaves_step=2, search_step=2, best_page=2, descendants_page=3)
        self.model = Model()
        self.blocks = [digest(n) for n in range(len(shape))]
        # Roots convicted for each cause: a repeat does nothing.
        self.judged: dict[int, set[bytes]] = {}
        self.messages = []
        for n, back in enumerate(shape):
            self.messages.append(self.story.block(n, n - 1 - back if n > back else "genesis"))

    def act(self, kind: str, n: int, more: int) -> None:
        block = self.blocks[n % len(self.blocks)]
        getattr(self, f"_{kind}")(block, n % len(self.blocks), more)

    def _import(self, block: bytes, n: int, more: int) -> None:
        message = self.messages[n]
        assert self.story.when(message).rejection is None
        self.model.import_block(block, message.parent)
        while list(self.story.given.view.scan(READY)):
            self.story.step()

    def _blacklist(self, block: bytes, n: int, more: int) -> None:
        roots = [block, self.blocks[more % len(self.blocks)]]
        then = self.story.when(Blacklist(roots=roots, cause=cause(f"r{more % 3}")))
        if all(root in self.model.numbers for root in roots):
            assert then.rejection is None
            self.model.convicted |= set(roots)
            self.model.reverted -= {(root, f"r{more % 3}") for root in roots if root not in self.judged.get(more % 3, set())}
            self.judged.setdefault(more % 3, set()).update(roots)
            self.model.freeze()
        else:
            assert then.rejection is not None

    def _finalize(self, block: bytes, n: int, more: int) -> None:
        model = self.model
        before = model.finalized
        then = self.story.when(FinalizeBlock(hash=block))
        forward = block in model.numbers and model.finalized in model.line(block)
        repeated = block in model.numbers and block in model.line(model.finalized)
        assert (then.rejection is None) == (model.frozen_at is None and (forward or repeated))
        if then.rejection is None and forward:
            model.finalized = block
            model.freeze()
        assert model.numbers[model.finalized] >= model.numbers[before]

    def _revert(self, block: bytes, n: int, more: int) -> None:
        then = self.story.when(Revert(blocks=[block], cause=cause(f"r{more % 2}")))
        if then.rejection is None and block not in self.judged.get(more % 2, set()):
            self.model.reverted.add((block, f"r{more % 2}"))

    def _lift(self, block: bytes, n: int, more: int) -> None:
        self.story.when(LiftRevert(blocks=[block], cause=cause(f"r{more % 2}")))
        self.model.reverted.discard((block, f"r{more % 2}"))

    def _step(self, block: bytes, n: int, more: int) -> None:
        self.story.step()

    def _resume(self, block: bytes, n: int, more: int) -> None:
        model = self.model
        if model.frozen_at is None:
            return
        final = {b for b in model.line(model.finalized) if b in model.convicted}
        if more % 2:
            also = {block} & model.convicted
            then = self._signed(ResumeMode.PARDON, final | also)
            model.convicted -= final | also
            for roots in self.judged.values():
                roots -= final | also
        else:
            then = self._signed(ResumeMode.ABANDON, set())
            frozen_at = model.frozen_at
            model.finalized = next(b for b in model.line(model.finalized) if model.numbers[b] == frozen_at)
            self.story.heard.finalized = frozen_at
        assert then.rejection is None
        model.frozen_at = None

    def _signed(self, mode: ResumeMode, roots: set[bytes]) -> Then:
        named = [n for n, block in enumerate(self.blocks) if block in roots]
        return self.story.when(self.story.resume(mode, *named))

    def check_always(self) -> None:
        """What holds at any moment, however much work is left."""
        story, model = self.story, self.model
        state = story.given.view.get(STATE, (0,))
        if state is None:
            return
        blacklisted = model.blacklisted()
        for n, block in enumerate(self.blocks):
            if block in model.numbers:
                assert story.is_blacklisted(n) == (block in blacklisted)
        assert story.best not in blacklisted
        assert story.finalized == model.numbers[model.finalized]
        assert story.in_governance() == (model.frozen_at is not None)

    def check_settled(self) -> None:
        """What holds when no work is left."""
        story, model = self.story, self.model
        story.settle()
        assert story.best == model.best()
        assert story.heard.best == list(model.line(model.best()))[::-1]
        assert story.leaves == story.heard.leaves == model.leaves()
        assert story.given.ask(GovernanceStatus()).blacklisted == len(model.blacklisted())
        assert story.given.ask(GovernanceStatus()).frozen_at == model.frozen_at


ACTIONS = st.tuples(
    st.sampled_from(["import"] * 6 + ["step"] * 4 + ["blacklist", "revert", "revert", "lift", "finalize", "resume"]),
    st.integers(0, 1000),
    st.integers(0, 1000),
)


@settings(max_examples=300, deadline=None)
@given(
    # How far back from the block before each one's parent is: long forks.
    shape=st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 4, 7]), min_size=8, max_size=MAX_BLOCKS),
    imported=st.integers(0, MAX_BLOCKS),
    actions=st.lists(ACTIONS, min_size=10, max_size=50),
)
def test_the_chain_is_what_its_definition_says(shape: list[int], imported: int, actions: list[tuple[str, int, int]]) -> None:
    run = Run(shape)
    for n in range(min(imported, len(shape))):
        run.act("import", n, 0)
    for action in actions:
        run.act(*action)
        run.check_always()
    run.check_settled()
    run.story.replays()
