"""What a node does with other peers' queries: a proof, a forward, a referral, or nothing. Whatever its mode."""

from collections.abc import Mapping

import msgspec

from messages.peers import PeerAnswer, PeerQuery, PeerQueryHandled, PeerReferral, TokenMapping
from subsystems.elections.peers.forwarding import STRATEGIES, Drop, Forward, Refer, Reply, Situation
from subsystems.elections.peers.local import Local
from subsystems.elections.peers.proof import sound
from subsystems.elections.peers.traffic import answer_bytes, query_bytes, referral_bytes

__all__ = ["Responding", "sealed_answer"]


def sealed_answer(local: Local, requester: int, ticket: int, proof: tuple[TokenMapping, list[TokenMapping]]) -> PeerAnswer:
    """One's own proof for a requester."""
    answer, mappings = proof
    unsealed = PeerAnswer(requester=requester, responder=local.self_id, ticket=ticket, answer=answer, signature=mappings, seal=b"")
    return msgspec.structs.replace(unsealed, seal=local.seal(answer_bytes(unsealed)))


class Responding:
    """Queries, each ticket once: what comes around again is dropped, so nothing loops (TTL bounds the rest)."""

    def __init__(self, local: Local) -> None:
        self._local = local
        # In order of what is forgotten first.
        self._handled = {each.ticket: each.until_ms for each in local.state.handled}

    @property
    def handled(self) -> Mapping[int, int]:
        """Tickets of queries that came, the oldest first, and until when they are remembered."""
        return self._handled

    def take(self, query: PeerQuery) -> None:
        """Answer, pass on, refer, or drop."""
        local = self._local
        refusal = self._refusal(query)
        if refusal:
            local.refuse(refusal, query.sender, query.ticket)
            return
        self._handled[query.ticket] = local.now_ms + local.config.handled_ttl_ms
        requester = local.roster.identify(query.requester, local.now_ms)
        if requester is not None:
            requester.silent = 0
        proof = sound(local.tokens, query.requester, query.token)
        situation = Situation(
            self_id=local.self_id,
            token=query.token,
            ttl=min(query.ttl, local.config.ttl),
            can_answer=proof is not None,
            first_hand=query.hop == local.self_id and query.sender == query.requester,
            known=tuple(peer for peer in local.roster.ids if peer not in (query.requester, query.sender)),
            fanout=local.config.fanout,
        )
        course = STRATEGIES[local.config.strategy](situation, local.draw)
        match course:
            case Reply():
                assert proof is not None, "no strategy replies with what cannot be proven"
                local.send(sealed_answer(local, query.requester, query.ticket, proof))
            case Forward(hops):
                for hop in hops:
                    local.send(msgspec.structs.replace(query, to=hop, ttl=situation.ttl - 1, sender=local.self_id))
            case Refer(suggestions):
                self._refer(query, suggestions)
            case Drop():
                pass
        told = type(course).__name__.lower()
        local.report(PeerQueryHandled(at_ms=local.now_ms, ticket=query.ticket, requester=query.requester, course=told))

    def _refusal(self, query: PeerQuery) -> str:
        """Why not even to look at it; "" where there is no reason."""
        local = self._local
        if query.requester == local.self_id:
            return "own_query"
        if self._is_handled(query.ticket):
            return "query_repeated"
        sealed = local.authentic(query.requester, query_bytes(query.token, query.requester, query.ticket), query.seal)
        return "" if sealed else "query_forged"

    def _refer(self, query: PeerQuery, suggestions: tuple[int, int]) -> None:
        local = self._local
        unsealed = PeerReferral(
            token=query.token, ticket=query.ticket, requester=query.requester, sender=local.self_id, suggestions=[*suggestions], seal=b""
        )
        local.send(msgspec.structs.replace(unsealed, seal=local.seal(referral_bytes(unsealed))))

    def _is_handled(self, ticket: int) -> bool:
        """Forgets on the way what is too old or too much."""
        local, handled = self._local, self._handled
        while handled:
            oldest = next(iter(handled))
            if handled[oldest] > local.now_ms and len(handled) < local.config.handled_max:
                break
            del handled[oldest]
        return ticket in handled
