"""The chain at rest, and what it told on the way: answers, signals and rows must be what the definitions come to."""

from collections.abc import Sequence

from blake3 import blake3

from messages.chain_api import (
    Best,
    BlacklistStatus,
    BlockImported,
    Finalized,
    GovernanceModeLeft,
    GovernanceReport,
    GovernanceStatus,
    Hashes,
    Header,
    IsBlacklisted,
    Leaves,
    PendingTransactions,
    SessionValidators,
    TransactionIncluded,
    TransactionPool,
    TransactionQueued,
    TransactionReturned,
)
from messages.chain_api import Session as SessionQuery
from messages.message import Message
from messages.signals import ActiveLeaves, BestChain, BlockFinalized, BlocksBlacklisted, GovernanceMode, GovernanceState
from overseer.simulation.checks_chain import ChainModel
from overseer.simulation.checks_course import ask, differ, must
from overseer.simulation.scenario import AtRest

__all__ = ["ChainAtRest", "Heard"]

NAME = "chain"
TOLD = "told"


class ChainAtRest(ChainModel):
    """The model, and the look at what is answered."""

    def at_rest(self, rest: AtRest, node: str) -> None:
        for orphan in self.waiting.values():
            must(NAME, not self.knows(orphan.parent), f"{node}: block {orphan.hash.hex()[:8]} still waits for a parent that is there")
        self._blacklist(rest, node)
        best, final = ask(NAME, rest, node, Best(), Header), ask(NAME, rest, node, Finalized(), Header)
        must(NAME, best.hash == self.best, f"{node}: best is {best.hash.hex()[:8]} ({best.number}), the rules say {self.best.hex()[:8]}")
        must(NAME, final.hash == self.finalized, f"{node}: finalized is {final.number}, it was moved to {self.number(self.finalized)}")
        active = ask(NAME, rest, node, Leaves(), Hashes).hashes
        differ(NAME, f"{node}: active leaves", list(self.leaves), active)
        must(NAME, [self.number(b) for b in active] == sorted(self.number(b) for b in active), f"{node}: leaves are out of order")
        self._pool(rest, node)
        self._sessions(rest, node)

    def _blacklist(self, rest: AtRest, node: str) -> None:
        blacklisted = self.blacklisted
        for block in sorted(self.blocks):
            status = ask(NAME, rest, node, IsBlacklisted(hash=block), BlacklistStatus)
            must(NAME, status.blacklisted == (block in blacklisted), f"{node}: {block.hex()[:8]} is blacklisted: {status.blacklisted}")
            if status.blacklisted:
                assert status.root is not None
                assert status.cause is not None
                causes = self.convicted.get(status.root, ())
                why = (status.cause.session, status.cause.candidate)
                must(NAME, status.root in self.line(block) and why in causes, f"{node}: {block.hex()[:8]} is blacklisted for a wrong cause")
        report = ask(NAME, rest, node, GovernanceStatus(), GovernanceReport)
        found = (report.state is GovernanceState.ENTERED, report.entry, report.frozen_at, report.blacklisted, sorted(report.roots))
        due = (bool(self.bad_final), self.entries, self.frozen_at, len(blacklisted), sorted(self.bad_final))
        must(NAME, found == due, f"{node}: governance is answered as {found}, the rules say {due}")

    def _pool(self, rest: AtRest, node: str) -> None:
        answer = ask(NAME, rest, node, PendingTransactions(), TransactionPool)
        differ(NAME, f"{node}: pool", list(self.pooled), [t.id for t in answer.transactions])
        must(NAME, answer.total == len(self.pooled), f"{node}: {answer.total} transactions are counted, {len(self.pooled)} are there")

    def _sessions(self, rest: AtRest, node: str) -> None:
        """A session that the best chain has started is known with that chain's validators."""
        for block in self.line(self.best):
            start = None if block == self.genesis else self.blocks[block].session_start
            if start is not None:
                known = ask(NAME, rest, node, SessionQuery(index=self.blocks[block].session), SessionValidators)
                must(NAME, known.validators == start, f"{node}: session {known.index} has other validators than the best chain says")


class Heard:
    """The chain as somebody knows it who only listens to what it tells: signals and facts, one by one."""

    def __init__(self, genesis: bytes) -> None:
        self.best = [genesis]
        self.active: set[bytes] = set()
        self.finalized = genesis
        self.governance: tuple[int, int] | None = None
        self.entries = 0
        self.blacklisted: list[bytes] = []
        self.imported: list[bytes] = []
        self.pool: set[bytes] = set()
        self._queued: set[bytes] = set()
        # Cascade -> pages so far, and the digest that chains them.
        self._cascades: dict[bytes, tuple[int, int, bytes]] = {}

    def hear(self, message: Message) -> None:
        """The next message, in the order told. Raises Violation when it does not fit."""
        match message:
            case BestChain():
                self._reorganised(message)
            case ActiveLeaves():
                gone, new = {ref.hash for ref in message.deactivated}, {ref.hash for ref in message.activated}
                must(TOLD, bool(gone or new), "active_leaves tells nothing")
                must(TOLD, gone <= self.active, "a leaf is deactivated that was not active")
                must(TOLD, not new & self.active, "a leaf is activated twice")
                self.active = (self.active - gone) | new
            case BlockFinalized():
                self.finalized = message.hash
            case GovernanceMode():
                entered = message.state is GovernanceState.ENTERED
                if entered and self.governance is None:
                    self.entries += 1
                must(TOLD, message.entry == self.entries, f"governance entry {message.entry} after {self.entries}")
                self.governance = (message.entry, message.frozen_at) if entered else None
            case GovernanceModeLeft():
                # A chain that is abandoned takes its finality along.
                self.finalized = message.finalized.hash
            case BlockImported():
                self.imported.append(message.hash)
                if message.blacklisted:
                    self.blacklisted.append(message.hash)
            case BlocksBlacklisted():
                self._fallen(message)
            case TransactionQueued():
                must(TOLD, message.id not in self._queued, "a transaction is queued twice")
                self._queued.add(message.id)
                self.pool.add(message.id)
            case TransactionIncluded():
                self.pool.discard(message.id)
            case TransactionReturned():
                self.pool.add(message.id)
            case _:
                pass

    def _reorganised(self, message: BestChain) -> None:
        for ref in message.reverted:
            top = self.best.pop()
            must(TOLD, top == ref.hash and len(self.best) == ref.number, "best_chain reverts a block that is not the best one")
        for ref in message.applied:
            must(TOLD, len(self.best) == ref.number, "best_chain leaves out a height")
            self.best.append(ref.hash)

    def _fallen(self, page: BlocksBlacklisted) -> None:
        number, count, digest = self._cascades.get(page.cascade, (0, 0, bytes(32)))
        must(TOLD, page.page == number, f"page {page.page} of a cascade after {number} pages")
        count, digest = count + len(page.hashes), blake3(digest + b"".join(page.hashes)).digest()
        must(TOLD, not page.last or (page.count, page.digest) == (count, digest), "the pages of a cascade do not add up")
        self._cascades[page.cascade] = (number + 1, count, digest)
        self.blacklisted += page.hashes

    def agree(self, model: ChainModel, node: str) -> None:
        """At rest, who listened knows what there is to know."""
        where = f"{node}: by the signals"
        line = list(model.line(model.best))[::-1]
        must(
            TOLD,
            self.best == line,
            f"{where} the best chain ends at {len(self.best) - 1} in {self.best[-1].hex()[:8]}, not in {line[-1].hex()[:8]}",
        )
        differ(TOLD, f"{where}, active leaves", list(model.leaves), list(self.active))
        differ(TOLD, f"{where}, imported blocks", list(model.blocks), self.imported)
        due = None if model.frozen_at is None else (model.entries, model.frozen_at)
        must(
            TOLD, self.governance == due and self.entries == model.entries, f"{where} governance is {self.governance}, the rules say {due}"
        )
        if not model.pardoned:
            differ(TOLD, f"{where}, blacklisted blocks", list(model.blacklisted), self.blacklisted)
            must(TOLD, not due or self.finalized == model.finalized, f"{where} finality is elsewhere")
        # Blocks also return what nobody here has submitted.
        pooled = self.pool & model.submitted.keys()
        must(TOLD, pooled == model.pooled, f"{where} {len(pooled)} transactions are pooled, the rules say {len(model.pooled)}")

    def hear_all(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.hear(message)
