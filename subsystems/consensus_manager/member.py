"""What one member says in an attempt: a function of the attempt's progress, its own notes, its head, and its secrets.

Asked after every input for all that is due now and was not said yet, it is the same whether the node was there all the time or has just
been restarted. What it says is recorded before it is published, with the deal's seed sealed; so nothing is ever said twice in other words.
"""

from collections.abc import Iterator
from typing import TypedDict

from msgspec.structs import replace

from messages.codec import encode
from messages.consensus_journal import ShareChecked, ShareHeld, Spoken
from messages.consensus_manager import (
    Complaint,
    ComplaintReason,
    Confirm,
    Deal,
    GroupTransaction,
    Justify,
    OfAttempt,
    Opened,
    Phase,
    PhaseClosed,
    Stalled,
)
from messages.consensus_signing import statement_payload
from subsystems.consensus_manager.crypto.curve import Scalar, decode_scalar
from subsystems.consensus_manager.crypto.dealing import deal_from, decode_commitments, open_share, shown_share
from subsystems.consensus_manager.crypto.feldman import share_holds, sum_scalars
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.crypto.threshold import hash_message, partial_signature
from subsystems.consensus_manager.outcome import places, statement
from subsystems.consensus_manager.progress import Deals, Mine, Progress, own
from subsystems.consensus_manager.terms import Terms, phase_height
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["OwnEvent", "Speaker", "held_share", "stalled"]


class _Head(TypedDict):
    session: bytes
    sender: int
    signature: bytes


OwnEvent = ShareChecked | ShareHeld | Spoken


class Speaker:
    """A member of an attempt at one moment. `head` is the number of its best block."""

    def __init__(self, terms: Terms, progress: Progress, mine: Mine, deals: Deals, *, head: int, wallet: Wallet) -> None:
        self.terms = terms
        self.progress = progress
        self.mine = mine
        self._deals = deals
        self._head = head
        self._wallet = wallet

    def due(self) -> list[OwnEvent]:
        """All that is to be recorded and said now, in order."""
        events: list[OwnEvent] = []
        for step in (self._opened, self._deal, self._check, self._complain, self._justify, self._close, self._confirm):
            for event in step():
                self.mine = own(self.mine, event)
                events.append(event)
        return [*events, *self._submit()]

    def share_due(self) -> list[OwnEvent]:
        """Its share of the key, once there is one and it was not recorded yet."""
        share = None if self.mine.share is not None else self._share()
        return [] if share is None else list(self._hold(share))

    # -------------------------------------------------------------------------------------------- what is said

    def _opened(self) -> Iterator[OwnEvent]:
        if not self.mine.has_said("opened"):
            yield self._say(Opened(attempt=self.terms.attempt, **self._nobody()))

    def _deal(self) -> Iterator[OwnEvent]:
        """Once, in the first phase, and not after the head has passed its end: such a deal would come too late anyway (E22).

        Its seed belongs to the session's key, so a node whose store was lost says the same deal again, or none (R5): two would be held
        against it.
        """
        if self.progress.phase is not Phase.DEAL or self._passed(Phase.DEAL) or self.mine.has_said("deal"):
            return
        seed = self._wallet.deal_seed(self.terms.session)
        sealed = None if seed is None else self._wallet.seal(seed, self._label(b"seed"))
        if seed is None or sealed is None or self.progress.deal_of(self.mine.place) is not None:
            return
        dealt = deal_from(
            seed,
            session=self.terms.session,
            dealer=self.mine.place,
            degree=self.terms.degree,
            receivers=[member.identity.box for member in self.terms.members],
        )
        deal = Deal(commitments=dealt.commitments, ephemeral=dealt.ephemeral, boxes=dealt.boxes, proof=dealt.proof, **self._nobody())
        yield self._say(deal, sealed=sealed)

    def _check(self) -> Iterator[OwnEvent]:
        """Open the boxes that came since."""
        looked = {*self.mine.good, *(event.dealer for event in self.mine.bad)}
        for note in self.progress.deals:
            if note.fault is None and note.dealer not in looked and self.progress.key is None:
                yield ShareChecked(session=self.terms.session, dealer=note.dealer, reason=self._wrong(note.dealer))

    def _complain(self) -> Iterator[OwnEvent]:
        if self.progress.phase not in (Phase.DEAL, Phase.COMPLAIN):
            return
        for event in self.mine.bad:
            about = str(event.dealer)
            if event.reason is not None and event.dealer != self.mine.place and not self.mine.has_said("complaint", about):
                yield self._say(Complaint(dealer=event.dealer, reason=event.reason, **self._nobody()), about)

    def _justify(self) -> Iterator[OwnEvent]:
        """Show the share that a member complains about: it is the complainer's own secret, and nobody else's."""
        if self.progress.phase is Phase.CONFIRM:
            return
        for note in self.progress.complaints:
            about = str(note.complainer)
            if note.dealer != self.mine.place or note.answer is not None or self.mine.has_said("justify", about):
                continue
            seed = self._wallet.unseal(self.mine.seed, self._label(b"seed"))
            if seed is None:
                # The store that recorded it was lost; the deal is still of the session's key (R5).
                seed = self._wallet.deal_seed(self.terms.session)
            if seed is not None:
                share = shown_share(
                    seed, session=self.terms.session, dealer=self.mine.place, degree=self.terms.degree, member=note.complainer
                )
                yield self._say(Justify(complainer=note.complainer, share=share, **self._nobody()), about)

    def _close(self) -> Iterator[OwnEvent]:
        """One phase after the other: the next one's end is told when this one is over in the stream, so that nobody's word is cut off."""
        phase = self.progress.phase
        if self._passed(phase) and not self.mine.has_said("phase_closed", phase.value):
            yield self._say(PhaseClosed(phase=phase, **self._nobody()), phase.value)

    def _confirm(self) -> Iterator[OwnEvent]:
        """Once the key is formed, by who has a share of it: who has none does not vote."""
        key = self.progress.key
        if key is None or self.mine.has_said("confirm"):
            return
        share = self._share()
        held = () if share is None else tuple(self._hold(share))
        if share is None or not held:
            return
        yield from held
        payload = statement_payload(statement(self.terms, key))
        confirm = Confirm(
            qualified=key.qualified,
            key=key.key,
            transcript=key.transcript,
            approval=self._wallet.sign(payload),
            partial=partial_signature(share, hash_message(key.key, payload)),
            **self._nobody(),
        )
        yield self._say(confirm)

    def _hold(self, share: Secret[Scalar]) -> Iterator[OwnEvent]:
        """Nothing once the session's key is erased."""
        sealed = self._wallet.seal(Secret(share.reveal().to_be_bytes()), self._label(b"share"))
        if sealed is not None:
            yield ShareHeld(session=self.terms.session, sealed=sealed)

    def _submit(self) -> Iterator[OwnEvent]:
        """The first f + 1 members hand the transaction in: one of them is not faulty, and all have the same bytes."""
        body = self.progress.transaction
        if body is not None and self.mine.place <= self.terms.faulty_most and not self.mine.has_said("group_transaction"):
            yield Spoken(session=self.terms.session, name=GroupTransaction.spec.name, about="", body=body)

    # -------------------------------------------------------------------------------------------- what it knows

    def _passed(self, phase: Phase) -> bool:
        height = phase_height(self.terms.attempt, phase)
        return height is not None and self._head >= height

    def _opened_share(self, dealer: int) -> Secret[Scalar] | None:
        deal, place = self._deals[dealer], self.mine.place
        return open_share(
            deal.boxes[place],
            session=self.terms.session,
            dealer=dealer,
            member=place,
            ephemeral=deal.ephemeral,
            receiver=self._wallet.box,
        )

    def _wrong(self, dealer: int) -> ComplaintReason | None:
        share = self._opened_share(dealer)
        if share is None:
            return ComplaintReason.UNREADABLE
        commitments = decode_commitments(tuple(self._deals[dealer].commitments))
        return None if share_holds(share, commitments, self.mine.place) else ComplaintReason.WRONG_SHARE

    def _share(self) -> Secret[Scalar] | None:
        """This member's share of the key: the sum of the qualified dealers' shares, from its boxes or shown in public.

        It fits the sum of their commitments, or there is none. So a member that was away while boxes were looked at needs not look, and
        one that lost its store needs not know what it found in them.
        """
        key = self.progress.key
        dealers = None if key is None else places(key.qualified, self.terms.size)
        if key is None or dealers is None:
            return None
        shares: list[Secret[Scalar]] = []
        for dealer in dealers:
            shown = self._shown(dealer)
            share = self._opened_share(dealer) if shown is None else shown
            if share is None:
                return None
            shares.append(share)
        total = sum_scalars(shares)
        return total if share_holds(total, decode_commitments(tuple(key.commitments)), self.mine.place) else None

    def _shown(self, dealer: int) -> Secret[Scalar] | None:
        note = self.progress.complaint(dealer, self.mine.place)
        return None if note is None or note.answer is None else Secret(decode_scalar(note.answer.share))

    # -------------------------------------------------------------------------------------------- how it says it

    def _nobody(self) -> _Head:
        """The fields that every message has, before it is signed."""
        return {"session": self.terms.session, "sender": self.mine.place, "signature": bytes(64)}

    def _say(self, message: OfAttempt, about: str = "", sealed: bytes | None = None) -> Spoken:
        signed = replace(message, signature=self._wallet.signature(message))
        return Spoken(session=self.terms.session, name=message.spec.name, about=about, body=encode(signed), sealed=sealed)

    def _label(self, what: bytes) -> bytes:
        return self.terms.session + what


def held_share(mine: Mine, session: bytes, wallet: Wallet) -> Secret[Scalar] | None:
    """A member's share of its group's key, as it is stored; None when it has none, or the session's key is erased."""
    share = wallet.unseal(mine.share, session + b"share")
    return None if share is None else Secret(decode_scalar(share.reveal()))


def stalled(terms: Terms, progress: Progress, *, validator: int, wallet: Wallet) -> Stalled:
    """What a validator, member or not, says when no block came for `stall_ms` while the attempt is in its present phase."""
    message = Stalled(session=terms.session, sender=validator, signature=bytes(64), attempt=terms.attempt, phase=progress.phase)
    return replace(message, signature=wallet.signature(message))
