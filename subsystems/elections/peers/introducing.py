"""How two nodes become peers, and stay it: each proves its storage to the other, about a token of the other's choice.

    inviter -> invited: PeerInvite (a challenge)
    invited -> inviter: PeerAccept (its proof, and a challenge if it wants the inviter as a peer too)
    inviter -> invited: PeerConfirm (its proof)

Whoever verified the other's proof and seal has it connected. The same keeps a connection alive that no election verified for long.
"""

from messages.peers import PeerAccept, PeerAnswer, PeerConfirm, PeerInvite
from subsystems.elections.peers.local import Introduction, Local
from subsystems.elections.peers.proof import flaw_of, sound
from subsystems.elections.peers.responding import sealed_answer
from subsystems.elections.peers.roster import Peer, PeerState, Step
from subsystems.elections.peers.tokens import near
from subsystems.elections.peers.traffic import invite_bytes, is_for

__all__ = ["Introducing"]

# A pending peer is invited so often before it expires: it may not hold one token or the other.
_TRIES = 4


class Introducing:
    """Challenges of introductions, by ticket."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._open = {each.ticket: each for each in local.state.introductions}

    def open(self) -> list[Introduction]:
        return list(self._open.values())

    # ------------------------------------------------------------------------------------------------ asking

    def invite(self, peer: Peer) -> None:
        local = self._local
        challenge = self._challenge(peer.id)
        if challenge is None:
            return
        seal = local.seal(invite_bytes(local.self_id, peer.id, challenge.token, challenge.ticket))
        local.send(PeerInvite(sender=local.self_id, to=peer.id, token=challenge.token, ticket=challenge.ticket, seal=seal))

    def _challenge(self, peer: int) -> Introduction | None:
        """A token of one's own choice, near the peer."""
        local = self._local
        found = near(local.tokens, peer, local.config.token_choice)
        if not found:
            return None
        until_ms = local.now_ms + local.config.pending_ttl_ms // _TRIES
        made = Introduction(ticket=local.fresh_ticket(), peer=peer, token=local.draw.one_of(found), until_ms=until_ms)
        self._open[made.ticket] = made
        return made

    # ------------------------------------------------------------------------------------------------ the three steps

    def invited(self, invite: PeerInvite) -> None:
        """Prove what is asked, and ask back where there is a place for the inviter."""
        local = self._local
        if invite.to != local.self_id or not local.authentic(
            invite.sender, invite_bytes(invite.sender, invite.to, invite.token, invite.ticket), invite.seal
        ):
            return local.refuse("invite_forged", invite.sender, invite.ticket)
        inviter = local.roster.identify(invite.sender, local.now_ms)
        proof = sound(local.tokens, invite.sender, invite.token)
        if inviter is None or proof is None:
            return local.refuse("cannot_prove", invite.sender, invite.ticket)
        busy = len(self._open) >= local.config.introductions_max
        wanted = not busy and (inviter.listed or local.roster.room_for(inviter.id, local.now_ms)[0])
        challenge = self._challenge(inviter.id) if wanted else None
        token, ticket = (challenge.token, challenge.ticket) if challenge is not None else (0, 0)
        seal = local.seal(invite_bytes(local.self_id, inviter.id, token, ticket))
        answer = sealed_answer(local, inviter.id, invite.ticket, proof)
        return local.send(PeerAccept(proof=answer, token=token, ticket=ticket, seal=seal))

    def accepted(self, accept: PeerAccept) -> None:
        """The invited peer's proof; one's own in return."""
        local, sender = self._local, accept.proof.responder
        if not self._proven(accept.proof):
            return None
        if accept.ticket == 0:
            return None
        if not local.authentic(sender, invite_bytes(sender, local.self_id, accept.token, accept.ticket), accept.seal):
            return local.refuse("invite_forged", sender, accept.ticket)
        proof = sound(local.tokens, sender, accept.token)
        if proof is None:
            return local.refuse("cannot_prove", sender, accept.ticket)
        return local.send(PeerConfirm(proof=sealed_answer(local, sender, accept.ticket, proof)))

    def confirmed(self, confirm: PeerConfirm) -> None:
        self._proven(confirm.proof)

    def _proven(self, answer: PeerAnswer) -> bool:
        """Verify a proof to a challenge of one's own; whoever gave it is connected, if there is a place."""
        local = self._local
        challenge = self._open.get(answer.ticket)
        if challenge is None or challenge.peer != answer.responder or challenge.token != answer.answer.id:
            local.refuse("unknown_introduction", answer.responder, answer.ticket)
            return False
        if not is_for(local.self_id, answer, local.authentic):
            local.refuse("introduction_forged", answer.responder, answer.ticket)
            return False
        del self._open[answer.ticket]
        flaw = flaw_of(
            answer.signature,
            challenger=local.self_id,
            answer=answer.answer,
            tokens=local.tokens,
            contradictions_max=local.config.election.contradictions_max,
            familiar_min=local.config.election.familiar_min,
        )
        peer = local.roster.identify(answer.responder, local.now_ms)
        if peer is None or flaw is not None:
            if peer is not None:
                peer.offences += 1
            local.refuse("introduction_unproven", answer.responder, answer.ticket, "" if flaw is None else flaw)
            return False
        return self._connect(peer)

    def _connect(self, peer: Peer) -> bool:
        local = self._local
        if not peer.listed:
            room, leaves = local.roster.room_for(peer.id, local.now_ms)
            if not room:
                local.refuse("no_room", peer.id, 0)
                return False
            if leaves is not None:
                local.move(leaves, Step.EVICTED)
        peer.verified_ms = local.now_ms
        peer.invited_in_vain = 0
        local.move(peer, Step.PROVEN)
        return True

    # ------------------------------------------------------------------------------------------------ time

    def tick(self) -> None:
        """Forget challenges that nobody answered, expire, and invite those that are due."""
        local = self._local
        for introduction in self.open():
            if introduction.until_ms <= local.now_ms:
                del self._open[introduction.ticket]
        for peer in local.roster.expired(local.now_ms):
            peer.invited_in_vain += peer.state is PeerState.PENDING
            local.move(peer, Step.EXPIRED)
        for peer in local.roster.listed:
            if self._invite_ms(peer) <= local.now_ms:
                self.asked(peer)

    def asked(self, peer: Peer) -> None:
        """Invite a peer and note when. A pending peer's time runs from its election on, not from here."""
        self._local.roster.touched.add(peer.id)
        peer.asked_again_ms = self._local.now_ms
        self.invite(peer)

    def _invite_ms(self, peer: Peer) -> int:
        """When a listed peer is invited next: pending ones several times, connected ones to keep them alive."""
        again = peer.asked_again_ms + self._local.config.pending_ttl_ms // _TRIES
        if peer.state is PeerState.PENDING:
            return again
        return max(again, peer.verified_ms + self._local.config.keep_alive_ms)

    def due_ms(self) -> list[int]:
        """When something is due in the list."""
        roster = self._local.roster
        return [min(roster.expires_ms(peer), self._invite_ms(peer)) for peer in roster.listed]
