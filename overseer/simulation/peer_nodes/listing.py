"""The peer list and introductions as they must be: who is in it, by which proof, and within which bound."""

from collections.abc import Callable, Sequence

import msgspec

from messages.message import Message
from messages.peer_queries import PeersReport
from messages.peers import PeerAccept, PeerAnswer, PeerConfirm, PeerInvite, PeerMoved
from overseer.simulation.checks_course import must
from overseer.simulation.peer_nodes.proofs import Held, answer_sealed, invited
from subsystems.elections.peers.config import PeersConfig

__all__ = ["Listing"]

# A peer is challenged again after so large a part of the time that it has.
_TRIES = 4
_STEPS = {
    "elected": {("identified", "pending")},
    "proven": {("identified", "connected"), ("pending", "connected")},
    "expired": {("pending", "identified"), ("connected", "identified")},
    "evicted": {("pending", "identified"), ("connected", "identified")},
    "revoked": {("pending", "identified"), ("connected", "identified")},
}


class _Challenge(msgspec.Struct, frozen=True):
    peer: int
    token: int
    until_ms: int


class Listing:
    """One node's."""

    def __init__(self, held: Held, me: int, rules: PeersConfig) -> None:
        self._held, self._me, self._rules = held, me, rules
        self._states: dict[int, str] = {}
        # As of the last step.
        self._before: dict[int, str] = {}
        self._open: dict[int, _Challenge] = {}
        self._won = 0
        # Of the last election that each peer won, the block.
        self._blocks: dict[int, int | None] = {}
        self._proven: list[int] = []

    def _listed(self) -> int:
        return len(self._states)

    def won(self, peer: int, block: int | None) -> None:
        """It was elected just now, by a token of that block."""
        self._won = peer
        self._blocks[peer] = block

    def voided(self, numbers: Sequence[int]) -> None:
        """Blocks were blacklisted: whom they elected has left."""
        left = [peer for peer in self._states if self._blocks.get(peer) in numbers]
        must("list", not left, f"{left} are listed for a blacklisted block")

    def challenges(self, peer: int, token: int, ticket: int, now_ms: int) -> None:
        must("introductions", self._held.block(token) is not None and ticket not in self._open, f"challenges {peer} with {token}")
        self._open[ticket] = _Challenge(peer, token, now_ms + self._rules.pending_ttl_ms // _TRIES)

    def moved(self, event: PeerMoved) -> None:
        before = self._states.get(event.peer, "identified")
        must("list", event.before == before, f"{event.peer} was {before}, not {event.before}")
        must("list", (event.before, event.after) in _STEPS[event.step], f"{event.step} led from {event.before} to {event.after}")
        if event.step == "elected":
            must("list", event.peer == self._won, f"{event.peer} was not elected")
        if event.step == "evicted":
            must("list", self._listed() >= self._rules.list_max, f"{event.peer} was evicted, and there is room")
        if event.step == "proven":
            self._proven.append(event.peer)
        if event.after == "identified":
            del self._states[event.peer]
        else:
            self._states[event.peer] = event.after
        must("list", self._listed() <= self._rules.list_max, f"{self._listed()} peers are listed")

    # ------------------------------------------------------------------------------------------------ what is heard

    def heard(
        self,
        message: PeerInvite | PeerAccept | PeerConfirm,
        now_ms: int,
        reacted: Sequence[str],
        said: Sequence[Message],
        flaw: Callable[[PeerAnswer], str],
    ) -> None:
        """A step of an introduction, from its author; `reacted`: what it was refused for."""
        if isinstance(message, PeerInvite):
            expected = self._of_challenge(message, message.sender)
            answers = [each for each in said if isinstance(each, PeerAccept)]
            must("introductions", list(reacted) == expected, f"an invitation: {list(reacted)}, must be {expected}")
            return must("introductions", len(answers) == (not expected), f"an invitation: says {answers}")
        verdicts = self._of_proof(message.proof, now_ms, flaw)
        connected = [verdict for verdict in verdicts if verdict == ""]
        if isinstance(message, PeerAccept) and message.ticket and connected and not (reacted and reacted[0] in verdicts):
            expected = self._of_challenge(message, message.proof.responder)
            confirms = [each for each in said if isinstance(each, PeerConfirm)]
            must("introductions", list(reacted) == expected, f"an accepted invitation: {list(reacted)}, must be {expected}")
            return must("introductions", len(confirms) == (not expected), f"an accepted invitation: says {confirms}")
        return must(
            "introductions", (reacted[0] if reacted else "") in verdicts and len(reacted) < 2, f"a proof: {reacted}, must be {verdicts}"
        )

    def _of_challenge(self, message: PeerInvite | PeerAccept, by: int) -> list[str]:
        if not invited(message):
            return ["invite_forged"]
        return [] if self._held.sound_proof(by, message.token) is not None else ["cannot_prove"]

    def _of_proof(self, proof: PeerAnswer, now_ms: int, flaw: Callable[[PeerAnswer], str]) -> list[str]:
        """Why a proof is refused; "" where it is not. More than one where what came first at that moment cannot be told."""
        peer, challenge = proof.responder, self._open.get(proof.ticket)
        proven, self._proven = self._proven, []
        verdict = self._verdict(proof, challenge, flaw)
        late = challenge is not None and challenge.until_ms <= now_ms
        if verdict and proven:
            must("introductions", False, f"{proven} are connected, though {verdict}")
        if verdict != "unknown_introduction" and verdict != "introduction_forged":
            del self._open[proof.ticket]
        verdicts = [verdict, "unknown_introduction"] if late else [verdict]
        # It may have made room again in the same step.
        if verdict == "" and peer not in proven and self._before.get(peer) != "connected":
            # It had no place.
            must("introductions", late or self._listed() >= self._rules.list_max, f"{peer} has proven itself, and is not connected")
            verdicts = ["no_room", *(["unknown_introduction"] if late else [])]
        return verdicts

    def _verdict(self, proof: PeerAnswer, challenge: _Challenge | None, flaw: Callable[[PeerAnswer], str]) -> str:
        if challenge is None or (challenge.peer, challenge.token) != (proof.responder, proof.answer.id):
            return "unknown_introduction"
        if proof.requester != self._me or not answer_sealed(proof):
            return "introduction_forged"
        return "introduction_unproven" if flaw(proof) else ""

    # ------------------------------------------------------------------------------------------------ the rest

    def stepped(self, now_ms: int) -> None:
        must("introductions", not self._proven, f"{self._proven} are connected, and proved nothing")
        self._won = 0
        self._before = dict(self._states)
        self._open = {ticket: challenge for ticket, challenge in self._open.items() if challenge.until_ms > now_ms}

    def at_rest(self, report: PeersReport) -> None:
        told = {peer.id: peer.state for peer in report.peers}
        must("list", told == self._states, f"tells {told}, must be {self._states}")
        must("list", sum(report.coverage) == len(told), f"covers {report.coverage}")
