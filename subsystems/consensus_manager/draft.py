"""One decision in the making: the tables as they are with what it has recorded so far, and the chain as they tell."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from messages.consensus_manager import Approval, Attempt, Deal, EpochUnknown, GroupTransaction, Identity
from messages.message import Message
from messages.polkadot import Scheme
from overseer.subsystem import Context
from overseer.tables import View
from subsystems.consensus_manager.config import ConsensusConfig, Enrolled, Vault
from subsystems.consensus_manager.deriving import derive
from subsystems.consensus_manager.evolution import evolve, floor_of
from subsystems.consensus_manager.handover import Acceptance, Serving, serving
from subsystems.consensus_manager.judging import signed_transaction
from subsystems.consensus_manager.progress import Deals
from subsystems.consensus_manager.schedule import begins
from subsystems.consensus_manager.selection import Candidate
from subsystems.consensus_manager.tables import ACCEPTED, ATTEMPTS, BLOCKS, CHAIN, DEALS, HEAD, VALIDATORS, AttemptRow, FloorRow, HeadRow
from subsystems.consensus_manager.terms import Terms, terms_of

__all__ = ["Branch", "Draft", "terms_of_row"]


class Draft:
    """`record` an event and go on reading: the tables have it."""

    def __init__(self, view: View, config: ConsensusConfig, vault: Vault, context: Context) -> None:
        self.config = config
        self.vault = vault
        self.context = context
        self.tables = view.scratch()
        self.events: list[Message] = []

    def record(self, event: Message) -> None:
        evolve(self.tables, event)
        self.events.append(event)

    @property
    def head(self) -> HeadRow:
        return self.tables.get(HEAD, (0,)) or HeadRow(hash=self.config.chain)

    @property
    def floor(self) -> FloorRow:
        """Where the chain that is known here begins."""
        return floor_of(self.tables)

    @property
    def epoch_unknown(self) -> EpochUnknown:
        """What is answered when it is not known who serves."""
        return EpochUnknown(known_from=self.floor.number)

    @property
    def signing(self) -> bytes:
        """This node's identity."""
        return self.vault.signing

    def best(self) -> "Branch":
        """The best chain."""
        head = self.head
        return Branch(self, head.hash or self.config.chain, head.number)

    def branch(self, block: bytes, number: int) -> "Branch":
        """The chain that ends with that block."""
        return Branch(self, block, number)

    def attempts(self) -> Iterator[tuple[bytes, AttemptRow]]:
        for (session,), row in self.tables.scan(ATTEMPTS):
            yield session, row

    def terms(self, session: bytes) -> Terms | None:
        """The terms of an attempt that is followed."""
        row = self.tables.get(ATTEMPTS, (session,))
        return None if row is None else terms_of_row(session, row, self.config)

    def deals(self, session: bytes) -> Deals:
        """Read one by one as they are asked for: they are large, and most messages need none."""
        return _StoredDeals(self.tables, session)


class _StoredDeals(Mapping[int, Deal]):
    def __init__(self, tables: View, session: bytes) -> None:
        self._tables = tables
        self._session = session

    def __getitem__(self, dealer: int) -> Deal:
        deal = self._tables.get(DEALS, (self._session, dealer))
        if deal is None:
            raise KeyError(dealer)
        return deal

    def __iter__(self) -> Iterator[int]:
        return (dealer for (_, dealer), _ in self._tables.scan(DEALS, (self._session,)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def terms_of_row(session: bytes, row: AttemptRow, config: ConsensusConfig) -> Terms:
    return Terms(
        session=session,
        chain=config.chain,
        epoch=row.epoch,
        attempt=row.attempt,
        block=row.block,
        members=tuple(row.members),
        validators=tuple(row.validators),
        min_confirmations=config.parameters.confirmations,
        stalls=tuple(row.stalls),
    )


def _candidate(index: int, key: bytes, scheme: Scheme, enrolled: Mapping[bytes, Enrolled]) -> Candidate:
    """A validator that is not enrolled, or signs otherwise than by Ed25519, has no weight: it is never drawn."""
    found = enrolled.get(key) if scheme is Scheme.ED25519 else None
    if found is None:
        return Candidate(index=index, identity=Identity(key, bytes(32)), weight=0)
    return Candidate(index=index, identity=Identity(key, found.box), weight=found.weight)


class Branch:
    """A chain from genesis to a block: a ledger. Off the best chain it is walked by parents, and kept.

    Of blocks before one whose parent is not known nothing is: it cannot be said whether they are on the best chain.
    """

    def __init__(self, draft: Draft, tip: bytes, number: int) -> None:
        self._draft = draft
        self._number = number
        # The part that is not on the best chain: number -> hash.
        self._own: dict[int, bytes] = {}
        self._known_from = 0
        tables = draft.tables
        while number > 0 and tables.get(CHAIN, (number,)) != tip:
            row = tables.get(BLOCKS, (tip,))
            self._own[number] = tip
            if row is None:
                self._known_from = number
                break
            tip, number = row.parent, number - 1

    @property
    def genesis(self) -> bytes:
        return self._draft.config.chain

    def hash_at(self, number: int) -> bytes | None:
        if not 0 <= number <= self._number:
            return None
        if number == 0:
            return self.genesis
        if number < self._known_from:
            return None
        return self._own.get(number) or self._draft.tables.get(CHAIN, (number,))

    def validators_at(self, number: int) -> Sequence[Candidate] | None:
        block = self.hash_at(number)
        row = None if block is None else self._draft.tables.get(BLOCKS, (block,))
        session = 0 if number == 0 else None if row is None else row.session
        validators = None if session is None else self._draft.tables.get(VALIDATORS, (session,))
        if validators is None:
            return None
        enrolled = {validator.signing: validator for validator in self._draft.config.enrolled}
        return [_candidate(index, v.key, v.scheme, enrolled) for index, v in enumerate(validators)]

    def serving(self) -> Serving | None:
        """Who serves behind the branch's last block; None: that was before this node's chain begins."""
        accepted = [acceptance for _, acceptance in self._draft.tables.scan(ACCEPTED)]
        numbers = {acceptance.block: acceptance.number for acceptance in accepted}
        found = serving(accepted, lambda block: self.hash_at(numbers[block]) == block)
        return found if found.group is not None or self._is_rooted() else None

    @property
    def group(self) -> Acceptance | None:
        """The group that serves, where there is one and it is known."""
        now = self.serving()
        return None if now is None else now.group

    def _is_rooted(self) -> bool:
        """Whether no group at all was accepted before the first one that is known here."""
        return self._known_from == 0 and not self._draft.floor.rootless

    def outcome_of(self, group: Acceptance) -> tuple[Terms, GroupTransaction] | None:
        """The attempt that a group on this chain came out of, and the transaction that says so; None: its beginning is forgotten."""
        row = self._draft.tables.get(BLOCKS, (group.block,))
        block, candidates = self.hash_at(begins(group.attempt)), self.validators_at(begins(group.attempt))
        if row is None or block is None or candidates is None:
            return None
        terms = terms_of(
            chain=self.genesis,
            epoch=group.epoch,
            attempt=group.attempt,
            block=block,
            members=group.members,
            validators=[candidate.identity.signing for candidate in candidates],
            min_confirmations=self._draft.config.parameters.confirmations,
        )
        transaction = signed_transaction(row.group_transactions, terms, group.key)
        return None if transaction is None else (replace(terms, stalls=tuple(transaction.stalls)), transaction)

    def derive(self, now: Serving, attempt: Attempt, stalls: Sequence[Approval] = ()) -> Terms | None:
        return derive(self, now, self._draft.config.parameters, attempt, stalls=stalls)
