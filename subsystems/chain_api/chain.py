"""The chain as one decision or answer sees it, and the draft on which a decision tries its events."""

from collections.abc import Sequence

from messages.chain_events import ChainStarted, ContinueWork
from messages.message import Message
from overseer.subsystem import Context, Decision, SetTimer
from overseer.tables import View
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.evolution import evolve
from subsystems.chain_api.tables import (
    MARKS,
    PENDING,
    READY,
    REVERTED,
    ROOT_OF,
    STATE,
    ChainState,
    block_key,
    hash_of,
    number_of,
)
from subsystems.chain_api.tree import find_block, is_ancestor, read_block

__all__ = ["Chain", "Draft"]


class Chain:
    """Reads over the tables; what is asked often is kept until `forget`."""

    def __init__(self, view: View, config: ChainConfig) -> None:
        self.config = config
        # Scratch, so that a chain that has not started yet is seen as started.
        self.tables = view.scratch()
        self.begun = view.has(STATE, (0,))
        if not self.begun:
            evolve(self.tables, self.beginning)
        self._state: ChainState | None = None
        self._pending: list[tuple[int, bytes]] | None = None
        self._reverted: list[bytes] | None = None

    @property
    def beginning(self) -> ChainStarted:
        validators = self.config.genesis_validators
        return ChainStarted(genesis=self.config.genesis, validators=None if validators is None else list(validators))

    def forget(self) -> None:
        """The tables changed."""
        self._state = self._pending = self._reverted = None

    @property
    def state(self) -> ChainState:
        if self._state is None:
            state = self.tables.get(STATE, (0,))
            assert state is not None
            self._state = state
        return self._state

    def key(self, block: bytes) -> bytes | None:
        """The block key of a hash, if the block is in the tree."""
        found = find_block(self.tables, block)
        return None if found is None else block_key(found.number, block)

    def parent(self, key: bytes) -> bytes:
        """The block key of the parent (genesis has none: not to be asked)."""
        return block_key(number_of(key) - 1, read_block(self.tables, hash_of(key)).parent)

    # -------------------------------------------------------------------------------------------- blacklist, reverts

    def pending_roots(self) -> list[tuple[int, bytes]]:
        """Convictions whose cascades are not marked in full: (id, root's block key)."""
        if self._pending is None:
            found: list[tuple[int, bytes]] = []
            if self.state.cascades:
                for (_, conviction), _ in self.tables.scan(PENDING):
                    root = self.tables.get(ROOT_OF, (conviction,))
                    assert root is not None
                    found.append((conviction, root))
            self._pending = found
        return self._pending

    def marked_by(self, key: bytes) -> int | None:
        """The standing conviction that the block is marked with."""
        mark = self.tables.get_packed(MARKS, key)
        return None if mark is None or self.tables.get_packed(ROOT_OF, mark) is None else int.from_bytes(mark, "big")

    def convicted_by(self, key: bytes) -> int | None:
        """The conviction that has this block on the blacklist: by its mark, or by ancestry while marking is in progress (C22)."""
        found = self.marked_by(key)
        if found is None:
            for conviction, root in self.pending_roots():
                if is_ancestor(self.tables, root, key):
                    return conviction
        return found

    def root_of(self, conviction: int) -> bytes:
        """The block key of the convicted root."""
        root = self.tables.get(ROOT_OF, (conviction,))
        assert root is not None
        return root

    def top_root(self, key: bytes) -> bytes | None:
        """The highest-up convicted root above (or at) the block: nothing above it is blacklisted. None: not blacklisted."""
        top: bytes | None = None
        conviction = self.convicted_by(key)
        while conviction is not None:
            top = self.root_of(conviction)
            conviction = self.convicted_by(self.parent(top))
        return top

    def reverted(self) -> list[bytes]:
        """Block keys of the reverted blocks, lowest first, each once."""
        if self._reverted is None:
            rows = self.tables.scan(REVERTED) if self.state.reverted else ()
            self._reverted = sorted({block_key(int.from_bytes(number, "big"), key[0]) for key, number in rows})
        return self._reverted

    def lowest_reverted(self, key: bytes) -> bytes | None:
        """The lowest reverted block that is the given one or an ancestor of it."""
        for root in self.reverted():
            if is_ancestor(self.tables, root, key):
                return root
        return None


class Draft(Chain):
    """A decision in the making: each event recorded is applied at once, so that what follows sees it."""

    def __init__(self, view: View, config: ChainConfig, context: Context) -> None:
        super().__init__(view, config)
        self.context = context
        self.events: list[Message] = []
        # The best block and the cursor of the search for a better one, until `best.announce` records them.
        self.best = self.state.best
        self.search = self.state.search

    def record(self, *events: Message) -> None:
        for event in events:
            self.events.append(event)
            evolve(self.tables, event)
        self.forget()

    @property
    def work_left(self) -> bool:
        state = self.state
        return bool(
            state.cascades
            or state.asked
            or state.sweeping
            or state.search is not None
            or state.revive is not None
            or state.told != state.best
            or self.orphans_ready
        )

    @property
    def orphans_ready(self) -> bool:
        return bool(self.state.orphans) and next(self.tables.scan_packed(READY), None) is not None

    def decision(self, reply: Message | None = None) -> Decision:
        """What was recorded; when work is left, with a timer that goes on right after what waits already."""
        events: Sequence[Message] = self.events
        if events and not self.begun:
            events = [self.beginning, *events]
        timers = [SetTimer(key="work", at_ms=self.context.now_ms, message=ContinueWork())] if self.work_left else []
        return Decision(events=events, timers=timers, reply=reply)
