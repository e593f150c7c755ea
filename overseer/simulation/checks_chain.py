"""What the chain must be: everything by definition, from the set of imported blocks, the convictions and what was finalized.

Written from docs/chain.md alone: the blacklist is the closure of the convicted blocks, looked at anew each time; governance
mode is on exactly while a convicted block is final; the best chain is the longest that may be built on.
"""

from collections.abc import Iterator

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from messages.chain_api import (
    Blacklist,
    BlocksReverted,
    FinalizeBlock,
    ImportBlock,
    LiftRevert,
    OrphanDropped,
    Resume,
    ResumeMode,
    Revert,
    RevertLifted,
    SubmitTransaction,
)
from messages.chain_events import (
    BestChainMoved,
    BlacklistRecorded,
    BlockRecorded,
    FinalityMoved,
    GovernanceExited,
    OrphanHeld,
    TransactionsSubmitted,
)
from messages.governance import resume_payload
from messages.message import Message
from messages.transaction import transaction_id
from overseer.simulation.checks_course import Input, must, shown
from overseer.simulation.scenario import AtRest, Violation

__all__ = ["ChainModel"]

NAME = "chain"
# (session, candidate)
Cause = tuple[int, bytes]


class ChainModel:
    """One node's chain by definition."""

    def __init__(self, genesis: bytes, authority: bytes, orphans_max: int) -> None:
        self.genesis = genesis
        self.authority = authority
        self.orphans_max = orphans_max
        self.blocks: dict[bytes, ImportBlock] = {}
        # Accepted, but the parent is not there; the oldest first.
        self.waiting: dict[bytes, ImportBlock] = {}
        self.finalized = genesis
        # Convicted root -> the disputes that convicted it.
        self.convicted: dict[bytes, set[Cause]] = {}
        self.pardoned: set[bytes] = set()
        self.reverted: set[tuple[bytes, Cause]] = set()
        self.entries = 0
        self.frozen_at: int | None = None
        self.submitted: dict[bytes, object] = {}
        # The best block as recorded, and whether a timer is set to go on with what one step could not do.
        self.recorded_best = genesis
        self._at_work = False

    # -------------------------------------------------------------------------------------------- definitions

    def number(self, block: bytes) -> int:
        return 0 if block == self.genesis else self.blocks[block].number

    def knows(self, block: bytes) -> bool:
        return block == self.genesis or block in self.blocks

    def line(self, block: bytes) -> Iterator[bytes]:
        """The block and its ancestors."""
        yield block
        while block != self.genesis:
            block = self.blocks[block].parent
            yield block

    def is_blacklisted(self, block: bytes) -> bool:
        return any(above in self.convicted for above in self.line(block))

    @property
    def blacklisted(self) -> set[bytes]:
        """The closure of the convicted blocks."""
        return {block for block in self.blocks if self.is_blacklisted(block)}

    @property
    def bad_final(self) -> list[bytes]:
        """Convicted blocks that are final, lowest first."""
        return sorted((b for b in self.line(self.finalized) if b in self.convicted), key=self.number)

    @property
    def leaves(self) -> set[bytes]:
        good = set(self.blocks) - self.blacklisted
        with_child = {self.blocks[block].parent for block in good}
        return {b for b in good - with_child if self.number(b) > self.number(self.finalized) or b == self.finalized}

    @property
    def best(self) -> bytes:
        if self.frozen_at is not None:
            frozen = next(b for b in self.line(self.finalized) if self.number(b) == self.frozen_at)
            return next(b for b in self.line(frozen) if self._viable(b))
        if not self._viable(self.finalized):
            return next(b for b in self.line(self.finalized) if self._viable(b))
        candidates = [b for b in (self.genesis, *self.blocks) if self.finalized in self.line(b) and self._viable(b)]
        return max(candidates, key=lambda b: (self.number(b), b))

    @property
    def pooled(self) -> set[bytes]:
        """Submitted, and not executed on the best chain."""
        executed = {t for block in self.line(self.best) if block != self.genesis for t in self.blocks[block].transactions}
        return set(self.submitted) - executed

    # -------------------------------------------------------------------------------------------- one input

    def take(self, given: Input) -> None:
        for event in given.events:
            self._joined(event)
        expected = self._expected(given)
        if expected is not None and expected != given.code:
            raise Violation(NAME, f"the outcome was {given.code}, the rules say {expected}")
        self._governed(given)
        self._followed(given)

    def _followed(self, given: Input) -> None:
        """No moment passes in which the best block may not be built on; and when no work is left, it is the best there is."""
        if not given.events:
            return
        for event in given.events:
            if isinstance(event, BestChainMoved):
                self.recorded_best = event.best.hash
        for timer in given.record.timers:
            self._at_work = timer.at_ms is not None
        if not self._at_work:
            due = self.best
            must(NAME, self.recorded_best == due, f"the best block is {self.recorded_best.hex()[:8]}, the rules say {due.hex()[:8]}")
        else:
            must(NAME, self._viable(self.recorded_best), f"{self.recorded_best.hex()[:8]} is the best block, though it may not be built on")

    def _viable(self, block: bytes) -> bool:
        stopped = {reverted for reverted, _ in self.reverted}
        return not any(above in stopped or above in self.convicted for above in self.line(block))

    def _joined(self, event: Message) -> None:
        """A block joins the tree under its parent, and is blacklisted from its first moment exactly when its parent is."""
        match event:
            case BlockRecorded():
                block = event.block
                self.waiting.pop(block.hash, None)
                must(NAME, self.knows(block.parent), f"block {block.hash.hex()[:8]} joined the tree without its parent")
                must(NAME, not self.knows(block.hash), f"block {block.hash.hex()[:8]} joined the tree twice")
                must(NAME, block.number == self.number(block.parent) + 1, f"block {block.hash.hex()[:8]} has a wrong number")
                self.blocks[block.hash] = block
                must(NAME, (event.convicted_by is not None) == self.is_blacklisted(block.hash), f"{block.hash.hex()[:8]}: blacklisted?")
            case OrphanHeld():
                must(NAME, not self.knows(event.block.parent), "a block waits for a parent that is there")
                self.waiting[event.block.hash] = event.block
            case OrphanDropped():
                full = event.reason == "pool_full" and len(self.waiting) >= self.orphans_max
                must(NAME, full or event.reason == "contradicts_parent", f"an orphan was given up: {event.reason}")
                self.waiting.pop(event.hash, None)
            case _:
                pass

    def _expected(self, given: Input) -> str | None:
        """The outcome that the rules give the input; None where they leave it open."""
        message = given.message
        match message:
            case ImportBlock():
                return self._import(message, given)
            case FinalizeBlock():
                return self._finalize(message.hash, given)
            case Blacklist():
                return self._convict(message, given)
            case Revert():
                return self._revert(message, given)
            case LiftRevert():
                lifted = {(block, (message.cause.session, message.cause.candidate)) for block in message.blocks} & self.reverted
                self._told(given, RevertLifted, {block for block, _ in lifted})
                self.reverted -= lifted
                return "accepted"
            case Resume():
                return self._resume(message, given)
            case SubmitTransaction():
                return self._submit(message, given)
            case _:
                return None

    def _import(self, block: ImportBlock, given: Input) -> str:
        here = any(isinstance(event, BlockRecorded) and event.block == block for event in given.events)
        held = any(isinstance(event, OrphanHeld) and event.block == block for event in given.events)
        known = self.blocks.get(block.hash)
        if known is not None and not here:
            return "accepted" if (known.parent, known.number) == (block.parent, block.number) else "bad_block"
        if block.hash == self.genesis or not block.number:
            return "accepted" if block.hash == self.genesis and not block.number else "bad_block"
        if not self.knows(block.parent):
            other = self.waiting.get(block.hash)
            if other is not None and (other.parent, other.number) != (block.parent, block.number):
                return "bad_block"
            must(NAME, held or block.hash in self.waiting, "a block without its parent was neither held nor refused")
            return "accepted"
        parent_session = 0 if block.parent == self.genesis else self.blocks[block.parent].session
        good = block.number == self.number(block.parent) + 1 and block.session >= parent_session
        must(
            NAME, here == good, f"block {block.hash.hex()[:8]} is {'good' if good else 'bad'} and {'is' if here else 'is not'} in the tree"
        )
        return "accepted" if good else "bad_block"

    def _finalize(self, block: bytes, given: Input) -> str:
        moved = [event.block.hash for event in given.events if isinstance(event, FinalityMoved)]
        if self.frozen_at is not None:
            code = "governance_mode"
        elif not self.knows(block):
            code = "unknown_block"
        elif block in self.line(self.finalized):
            code = "accepted"
        elif self.finalized in self.line(block):
            must(NAME, moved == [block], "finality did not move")
            self.finalized = block
            return "accepted"
        else:
            code = "conflicting_finality"
        must(NAME, not moved, "finality moved")
        return code

    def _convict(self, message: Blacklist, given: Input) -> str:
        if not all(self.knows(root) for root in message.roots):
            return "unknown_block"
        if self.genesis in message.roots:
            return "bad_block"
        cause = (message.cause.session, message.cause.candidate)
        fresh = {root for root in message.roots if cause not in self.convicted.get(root, ())}
        recorded = {c.hash for event in given.events if isinstance(event, BlacklistRecorded) for c in event.convictions}
        must(NAME, recorded == fresh, f"convicted were {shown(sorted(recorded))}, asked was for {shown(sorted(fresh))}")
        for root in fresh:
            self.convicted.setdefault(root, set()).add(cause)
            self.reverted.discard((root, cause))
        return "accepted"

    def _revert(self, message: Revert, given: Input) -> str:
        if not all(self.knows(block) for block in message.blocks):
            return "unknown_block"
        if self.genesis in message.blocks:
            return "bad_block"
        cause = (message.cause.session, message.cause.candidate)
        fresh = {b for b in message.blocks if (b, cause) not in self.reverted and cause not in self.convicted.get(b, ())}
        self._told(given, BlocksReverted, fresh)
        self.reverted |= {(block, cause) for block in fresh}
        return "accepted"

    def _told(self, given: Input, kind: type[BlocksReverted | RevertLifted], blocks: set[bytes]) -> None:
        told = {block for event in given.events if isinstance(event, kind) for block in event.blocks}
        must(NAME, told == blocks, f"{kind.__name__} names {shown(sorted(told))}, the rules say {shown(sorted(blocks))}")

    def _submit(self, message: SubmitTransaction, given: Input) -> str:
        fresh = {transaction_id(t): t for t in message.transactions if transaction_id(t) not in self.submitted}
        taken = [transaction_id(t) for e in given.events if isinstance(e, TransactionsSubmitted) for t in (*e.pooled, *e.executed)]
        must(NAME, sorted(taken) == sorted(fresh), f"{len(taken)} transactions taken, {len(fresh)} are new")
        self.submitted.update(fresh)
        return "accepted"

    # -------------------------------------------------------------------------------------------- governance

    def _resume(self, message: Resume, given: Input) -> str:
        named = set(message.roots)
        right = (
            self.frozen_at is not None
            and (message.chain, message.entry, message.frozen_at) == (self.genesis, self.entries, self.frozen_at)
            and self._signed(message)
            and (message.mode is ResumeMode.ABANDON or named.issuperset(self.bad_final))
        )
        left = [event for event in given.events if isinstance(event, GovernanceExited)]
        must(
            NAME, bool(left) == right, f"governance mode {'was' if left else 'was not'} left; the resume is {'right' if right else 'wrong'}"
        )
        if not right:
            return "resume_refused"
        if message.mode is ResumeMode.PARDON:
            for root in named & self.convicted.keys():
                self.reverted -= {(root, cause) for cause in self.convicted.pop(root)}
                self.pardoned.add(root)
        else:
            self.finalized = next(b for b in self.line(self.finalized) if self.number(b) == message.frozen_at)
        self.frozen_at = None
        return "accepted"

    def _signed(self, message: Resume) -> bool:
        signed = resume_payload(message.mode, chain=message.chain, entry=message.entry, frozen_at=message.frozen_at, roots=message.roots)
        try:
            VerifyKey(self.authority).verify(signed, message.signature)
        except (BadSignatureError, ValueError):
            return False
        return True

    def _governed(self, given: Input) -> None:
        """Governance mode begins, or is frozen lower, in the very record that makes a convicted block final or a final block
        convicted, and in no other (C11, C12, C20, D22, D23)."""
        told = [e.governance for e in given.events if isinstance(e, BlacklistRecorded | FinalityMoved) and e.governance is not None]
        bad = self.bad_final
        lowest = self.number(bad[0]) - 1 if bad else None
        if lowest is None:
            must(NAME, not told, "governance mode was entered, but no convicted block is final")
            return
        if self.frozen_at is None:
            self.entries += 1
            due = [(self.entries, lowest)]
        else:
            due = [(self.entries, lowest)] if lowest < self.frozen_at else []
        found = [(entry.entry, entry.frozen_at) for entry in told]
        must(NAME, found == due, f"governance mode: (entry, frozen at) told {found}, the rules say {due}")
        self.frozen_at = lowest if self.frozen_at is None else min(self.frozen_at, lowest)

    def at_rest(self, rest: AtRest, node: str) -> None:
        """See checks_chain_rest."""
