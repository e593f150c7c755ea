"""A whole DKG as one node's `consensus_manager` takes it: blocks, `opened`, deals, closings and confirmations, through its own tables."""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from messages.chain_api import BlockImported
from messages.codec import encode
from messages.consensus_journal import Spoken
from messages.consensus_manager import Confirm, Deal, GroupTransaction, Opened, Phase, PhaseClosed
from messages.message import CATALOG, Kind, Message, Spec
from messages.signals import BestChain, BlockRef, SessionChange
from overseer.bench.consensus_member import ConsensusNode, members_of, wallet_of
from overseer.feeds.keyring import derive
from subsystems.consensus_manager.member import Speaker
from subsystems.consensus_manager.progress import Mine, Progress
from subsystems.consensus_manager.tables import ATTEMPTS, DEALS, PROGRESS
from subsystems.consensus_manager.terms import Terms, terms_of
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["WholeDkg", "whole_dkg"]

_CLOSED = (Phase.DEAL, Phase.COMPLAIN, Phase.JUSTIFY)


class WholeDkg(Struct, frozen=True):
    """`spent_s`: of one node's processor. `messages` and `size_bytes`: bodies of all that the members tell each other in the attempt."""

    spent_s: float
    messages: int
    size_bytes: int


class _Attempt:
    """One node that is really there, and what the other members say; all in one order, as in the network's stream."""

    def __init__(self, size: int, number: int) -> None:
        wallets = [wallet_of(n) for n in range(size)]
        self.node = ConsensusNode(0, wallets, members_of(wallets), interval=1)
        self.line: list[tuple[Spec, bytes]] = []
        self._number = number
        self._heads = [bytes(32)]
        self._tell(SessionChange(index=0, validators=self.node.validators))
        self.block()
        self.terms = self._terms()
        self.mine = self.terms.place_of(wallets[0].identity.signing)
        by_key = {wallet.identity.signing: wallet for wallet in wallets}
        self.wallets = [by_key[member.identity.signing] for member in self.terms.members]
        # What comes before the first message is not of the DKG, but for the node's own deal.
        self.size_bytes = self.messages = 0

    def _terms(self) -> Terms:
        (((_,), row),) = self.node.view.scan(ATTEMPTS)
        made = terms_of(
            chain=bytes(32), epoch=row.epoch, attempt=row.attempt, block=row.block, members=row.members, validators=row.validators
        )
        assert self.node.view.has(PROGRESS, (made.session,))
        return made

    @property
    def progress(self) -> Progress:
        found = self.node.view.get(PROGRESS, (self.terms.session,))
        assert found is not None
        return found

    def block(self) -> None:
        """The next one."""
        number = len(self._heads)
        block = derive("block", self._number, number)
        told = BlockImported(
            hash=block, parent=self._heads[-1], number=number, session=0, backed=[], included=[], blacklisted=False, round=number
        )
        self._heads.append(block)
        self._tell(told)
        self._tell(BestChain(reverted=[], applied=[BlockRef(block, number)]))

    def others(self, *, names: Sequence[str], deals: Mapping[int, Deal] | None = None) -> None:
        """Those messages of all others that are due for them now."""
        for place, wallet in enumerate(self.wallets):
            if place != self.mine:
                self.line += _said(self.terms, place, wallet, self.progress, deals or {}, names)

    def closings(self, phase: Phase) -> None:
        for place, wallet in enumerate(self.wallets):
            if place != self.mine:
                message = PhaseClosed(session=self.terms.session, sender=place, signature=bytes(64), phase=phase)
                self.line.append((message.spec, encode(replace(message, signature=wallet.signature(message)))))

    def hear(self) -> None:
        """Everything that was said, its own among it."""
        while self.line:
            spec, body = self.line.pop(0)
            self.messages += 1
            self.size_bytes += len(body)
            if spec is not GroupTransaction.spec:
                self.line += self.node.hear(spec, body, "other")

    def _tell(self, message: Message) -> None:
        self.line += self.node.hear(message.spec, encode(message))


def _said(
    terms: Terms, place: int, wallet: Wallet, progress: Progress, deals: Mapping[int, Deal], names: Sequence[str]
) -> list[tuple[Spec, bytes]]:
    mine = Mine(place=place, good=tuple(deals))
    speaker = Speaker(terms, progress, mine, deals, head=terms.attempt.due, wallet=wallet)
    found: list[tuple[Spec, bytes]] = []
    for event in speaker.due():
        spec = CATALOG.find(Kind.NETWORK, "consensus_manager", event.name) if isinstance(event, Spoken) and event.name in names else None
        if spec is not None and isinstance(event, Spoken):
            found.append((spec, event.body))
    return found


def whole_dkg(size: int, number: int) -> WholeDkg:
    """From the block that begins the attempt to the group transaction."""
    attempt = _Attempt(size, number)
    attempt.others(names=(Opened.spec.name, Deal.spec.name))
    attempt.hear()
    for phase in _CLOSED:
        attempt.block()
        attempt.closings(phase)
        attempt.hear()
    deals = {dealer: deal for (_, dealer), deal in attempt.node.view.scan(DEALS)}
    attempt.others(names=(Confirm.spec.name,), deals=deals)
    attempt.hear()
    transaction = attempt.progress.transaction
    assert transaction is not None
    # The first f + 1 hand it in.
    missing = attempt.terms.faulty_most + (attempt.mine is None or attempt.mine > attempt.terms.faulty_most)
    return WholeDkg(attempt.node.spent_s, attempt.messages + missing, attempt.size_bytes + missing * len(transaction))
