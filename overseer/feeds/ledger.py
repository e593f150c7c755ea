"""The development chain's own, deliberately plain model of chain and disputes: whole sets, recomputed on every look.

It shares no code with the subsystems, so that agreement between the two means something. It knows only what the stories
need: one governance mode at a time, and no tie for the best chain.
"""

from collections import Counter, defaultdict

from messages.chain_api import ImportBlock, ResumeMode
from messages.dispute_conclusion import ConclusionState
from messages.polkadot import Side, Transaction, TransactionKind, Validator, VoteKind
from messages.signals import GovernanceState
from messages.transaction import transaction_id
from messages.votes_db import DisputeStatus, Outcome
from overseer.feeds.story import DisputeKey, Expected, Identity

__all__ = ["Ledger", "Tally"]


class Tally:
    """The votes on one candidate."""

    def __init__(self, validators: int) -> None:
        self.validators = validators
        self.pro: set[int] = set()
        self.cons: set[int] = set()
        self.status = DisputeStatus.NONE
        self.challenged = False
        # The verdict for which votes were rewarded and slashed, once there is one.
        self.judged: bool | None = None

    @property
    def faulty_max(self) -> int:
        return (self.validators - 1) // 3

    @property
    def supermajority(self) -> int:
        return self.validators - self.faulty_max


class Ledger:
    """Everything told to it so far; `expected()` is what it comes to."""

    def __init__(self, genesis: bytes) -> None:
        self.genesis = genesis
        self.blocks: dict[bytes, ImportBlock] = {}
        self.finalized = genesis
        self.sessions: dict[int, list[Validator]] = {}
        self.tallies: dict[DisputeKey, Tally] = {}
        self.outcomes: Counter[Outcome] = Counter()
        self.refusals: Counter[str] = Counter()
        self.pardoned: set[bytes] = set()
        self.ever_blacklisted: set[bytes] = set()
        self.rewards: set[Identity] = set()
        self.slashes: set[Identity] = set()
        self.resolutions: set[tuple[DisputeKey, bool]] = set()
        self.governance = GovernanceState.LEFT
        self.entries = 0
        self.frozen_at: int | None = None

    # -------------------------------------------------------------------------------------------- the chain

    def number(self, block: bytes) -> int:
        return 0 if block == self.genesis else self.blocks[block].number

    def path(self, block: bytes) -> list[bytes]:
        """From the block down to the first after genesis."""
        found: list[bytes] = []
        while block != self.genesis:
            found.append(block)
            block = self.blocks[block].parent
        return found

    def including(self, candidate: bytes) -> list[bytes]:
        return [b.hash for b in self.blocks.values() if candidate in b.included]

    @property
    def convicted(self) -> set[bytes]:
        """Candidates found invalid."""
        return {candidate for (_, candidate), t in self.tallies.items() if t.status is DisputeStatus.CONCLUDED_AGAINST}

    @property
    def roots(self) -> set[bytes]:
        """Blocks that included such a candidate, and are not pardoned."""
        convicted = self.convicted
        return {b.hash for b in self.blocks.values() if convicted.intersection(b.included)} - self.pardoned

    @property
    def blacklisted(self) -> set[bytes]:
        found: set[bytes] = set()
        roots = self.roots
        for block in self.blocks.values():  # parents come first
            if block.hash in roots or block.parent in found:
                found.add(block.hash)
        return found

    @property
    def best(self) -> bytes:
        """The end of the longest chain without blacklisted blocks; the stories leave no tie."""
        bad = self.blacklisted
        return max((b for b in self.blocks if b not in bad), key=self.number, default=self.genesis)

    @property
    def final_bad(self) -> list[bytes]:
        """Blacklisted blocks of the finalized chain, lowest first."""
        bad = self.blacklisted
        return [b for b in reversed(self.path(self.finalized)) if b in bad]

    def import_block(self, block: ImportBlock) -> None:
        self.blocks[block.hash] = block
        if block.session_start is not None:
            self.sessions[block.session] = block.session_start
        self._look()

    def finalize(self, block: bytes) -> None:
        self.finalized = block
        self._look()

    def refuse(self, code: str) -> None:
        self.refusals[code] += 1

    def resume(self, mode: ResumeMode, roots: list[bytes]) -> None:
        assert self.frozen_at is not None
        self.governance = GovernanceState.LEFT
        if mode is ResumeMode.PARDON:
            self.pardoned.update(roots)
        else:
            self.finalized = next(b for b in self.path(self.finalized) if self.number(b) == self.frozen_at)

    def _look(self) -> None:
        """What follows from the tree as it is now."""
        self.ever_blacklisted |= self.blacklisted
        if self.final_bad:
            lowest = self.number(self.final_bad[0]) - 1
            if self.governance is GovernanceState.LEFT:
                self.governance, self.frozen_at, self.entries = GovernanceState.ENTERED, lowest, self.entries + 1
            else:
                self.frozen_at = min(lowest, self.frozen_at or lowest)

    # -------------------------------------------------------------------------------------------- disputes

    def vote(self, key: DisputeKey, validator: int, side: Side, *, defect: Outcome | None = None) -> Outcome:
        """One vote of a bundle arrives; `defect` is what its maker did wrong on purpose."""
        tally = self.tallies.setdefault(key, Tally(len(self.sessions[key[0]])))
        outcome = defect or self._store(tally, validator, side)
        self.outcomes[outcome] += 1
        return outcome

    def _store(self, tally: Tally, validator: int, side: Side) -> Outcome:
        mine, other = (tally.pro, tally.cons) if side is Side.VALID else (tally.cons, tally.pro)
        if validator in mine:
            return Outcome.ALREADY_PRESENT
        mine.add(validator)
        return Outcome.DOUBLE_VOTE if validator in other else Outcome.STORED

    def recount(self, key: DisputeKey) -> DisputeStatus:
        """The bundle is complete: what follows from the votes as they are now."""
        tally = self.tallies[key]
        if tally.pro and tally.cons:
            tally.status = self._status(tally)
            tally.challenged |= len(tally.cons) > tally.faulty_max
        if tally.status is DisputeStatus.CONCLUDED_AGAINST:
            tally.judged = False
        elif tally.status is DisputeStatus.CONCLUDED_FOR:
            tally.judged = True
        if tally.judged is not None:
            self.resolutions.add((key, tally.judged))
            self._judge(key, tally, tally.judged)
        self._look()
        return tally.status

    def _status(self, tally: Tally) -> DisputeStatus:
        if tally.status is DisputeStatus.CONCLUDED_AGAINST or len(tally.cons) >= tally.supermajority:
            return DisputeStatus.CONCLUDED_AGAINST
        if tally.status is DisputeStatus.CONCLUDED_FOR or len(tally.pro) >= tally.supermajority:
            return DisputeStatus.CONCLUDED_FOR
        return DisputeStatus.CONFIRMED if len(tally.pro | tally.cons) > tally.faulty_max else DisputeStatus.ACTIVE

    def _judge(self, key: DisputeKey, tally: Tally, verdict: bool) -> None:
        right, wrong = (tally.pro, tally.cons) if verdict else (tally.cons, tally.pro)
        self.rewards |= {(*key, v, verdict) for v in right - wrong}
        self.slashes |= {(*key, v, verdict) for v in wrong}

    # -------------------------------------------------------------------------------------------- what it comes to

    @property
    def transactions(self) -> set[bytes]:
        kinds = ((TransactionKind.REWARD, self.rewards), (TransactionKind.SLASH, self.slashes))
        return {identify(kind, identity) for kind, identities in kinds for identity in identities}

    def unexecuted(self, tip: bytes) -> set[bytes]:
        """What no block of the chain up to `tip` executes."""
        return self.transactions - {t for b in self.path(tip) for t in self.blocks[b].transactions}

    @property
    def pending(self) -> set[bytes]:
        """What waits in the pool: not executed by the best chain."""
        return self.unexecuted(self._served)

    @property
    def _served(self) -> bytes:
        """In governance mode the best block is the frozen one (C11)."""
        if self.governance is GovernanceState.ENTERED:
            return next((b for b in self.path(self.finalized) if self.number(b) == self.frozen_at), self.genesis)
        return self.best

    def expected(self) -> Expected:
        keys_by_status: dict[DisputeStatus, set[DisputeKey]] = defaultdict(set)
        for key, tally in self.tallies.items():
            keys_by_status[tally.status].add(key)
        against, favoured = keys_by_status[DisputeStatus.CONCLUDED_AGAINST], keys_by_status[DisputeStatus.CONCLUDED_FOR]
        return Expected(
            blocks=len(self.blocks),
            best=self._served,
            finalized=self.finalized,
            finalized_number=self.number(self.finalized),
            sessions=dict(self.sessions),
            votes={key: (frozenset(t.pro), frozenset(t.cons)) for key, t in self.tallies.items()},
            votes_stored=sum(len(t.pro) + len(t.cons) for t in self.tallies.values()),
            outcomes=Counter(self.outcomes),
            statuses={key: t.status for key, t in self.tallies.items()},
            disputes=frozenset(self.tallies.keys() - keys_by_status[DisputeStatus.NONE]),
            resolutions=frozenset(self.resolutions),
            concluded_for=frozenset(favoured),
            concluded_against=frozenset(against),
            challenged=frozenset(key for key, t in self.tallies.items() if t.challenged),
            double_voters=frozenset((*key, v) for key, t in self.tallies.items() for v in t.pro & t.cons),
            conclusions={key: self._conclusion(key) for key in favoured | against},
            blacklisted=frozenset(self.blacklisted),
            ever_blacklisted=frozenset(self.ever_blacklisted),
            rewards=frozenset(self.rewards),
            slashes=frozenset(self.slashes),
            transactions=frozenset(self.transactions),
            pending=frozenset(self.pending),
            governance=self.governance,
            governance_entries=self.entries,
            frozen_at=self.frozen_at,
            refusals=Counter(self.refusals),
        )

    def _conclusion(self, key: DisputeKey) -> ConclusionState:
        if self.tallies[key].status is DisputeStatus.CONCLUDED_FOR:
            return ConclusionState.VALID
        return ConclusionState.BLACKLISTED if self.including(key[1]) else ConclusionState.AWAITING_INCLUSION


def identify(kind: TransactionKind, identity: Identity) -> bytes:
    """The id of the transaction that rewards or slashes; vote and signature do not enter it."""
    session, candidate, validator, verdict = identity
    side = Side.VALID if verdict else Side.INVALID
    return transaction_id(Transaction(kind, session, candidate, validator, side, VoteKind.APPROVAL, bytes(64)))
