"""What faulty peers say: each lie changes what an honest one is about to say, or adds to it.

A lie is a function of what was heard and of what was to be said alone. What a liar says is in its journal, so it follows from that, too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce

from blake3 import blake3
from msgspec.structs import replace

from messages.codec import encode
from messages.message import Message, Rejection
from messages.peers import PeerAccept, PeerAnswer, PeerConfirm, PeerInvite, PeerQuery, PeerReferral, PeerSaid, PeersDue, TokenMapping
from overseer.simulation.peer_nodes.holdings import TOKENS, ChainUniverse
from overseer.simulation.peers.attackers import fabricated
from overseer.subsystem import Context, Decision
from overseer.tables import View
from subsystems.elections.peers.config import PeersConfig
from subsystems.elections.peers.kind import PeerElections, Persona, said_of
from subsystems.elections.peers.proof import prove
from subsystems.elections.peers.ring import RING, le8
from subsystems.elections.peers.tokens import SUFFIXES, MemoryTokens, Tokens
from subsystems.elections.peers.traffic import Traffic, answer_bytes, invite_bytes, query_bytes, referral_bytes

__all__ = ["EMPTY_HANDED", "LIES", "MANY_NEEDED", "LyingPeers"]

_TRAFFIC = (PeerQuery, PeerAnswer, PeerReferral, PeerInvite, PeerAccept, PeerConfirm)
# Whose neighbours in the ring a token lies between, on the average.
_SPACING = RING // TOKENS


class Liar:
    """A liar as its lies know it. `heard`: what it was told, by whom; `peers`: the others' ids."""

    def __init__(self, persona: Persona, self_id: int, peers: Sequence[int], universe: ChainUniverse) -> None:
        self._persona = persona
        self.id = self_id
        self.peers = peers
        self.universe = universe

    def seal(self, payload: bytes) -> bytes:
        return self._persona.public + self._persona.sign(payload)

    def sealed(self, answer: PeerAnswer) -> PeerAnswer:
        """As its own word."""
        mine = replace(answer, responder=self.id)
        return replace(mine, seal=self.seal(answer_bytes(mine)))

    def is_asked(self, heard: Message) -> bool:
        """Whether somebody's query came to it."""
        return isinstance(heard, PeerQuery) and heard.to == self.id and heard.requester != self.id


# What it heard from someone honest (or a timer), and what it was to say -> what it says.
Lie = Callable[[Liar, Message, Sequence[Traffic]], Iterator[Traffic]]


def _number(*of: int) -> int:
    """Any number, always the same for the same."""
    return int.from_bytes(blake3(le8(*of)).digest()[:8], "little")


def silent(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Says nothing."""
    yield from ()


def forges(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Holds nothing, and answers every query with the best of fabrications, which all forgers share."""
    yield from (message for message in said if not isinstance(message, PeerAnswer | PeerReferral | PeerQuery))
    if isinstance(heard, PeerQuery) and me.is_asked(heard):
        yield fabricated(heard, me.id, me.universe.block_of(heard.token), me.seal, spacing=_SPACING)


def proves_another_block(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Says that a token maps to another block, with a proof as good as can be had for that."""
    for message in said:
        if isinstance(message, PeerAnswer):
            token, block = message.answer.id, message.answer.block ^ 1
            proof = prove(_Renamed(me.universe, token, block), message.requester, token)
            if proof is not None:
                message = me.sealed(replace(message, answer=proof[0], signature=proof[1]))
        yield message


class _Renamed(MemoryTokens):
    """The universe with one token that maps elsewhere."""

    def __init__(self, universe: ChainUniverse, token: int, block: int) -> None:
        super().__init__([TokenMapping(token, block)])
        self._universe = universe

    def block_of(self, token: int) -> int | None:
        return super().block_of(token) or self._universe.block_of(token)

    def with_low_bits(self, bits: int, *, after: int, upward: bool) -> Iterator[TokenMapping]:
        tokens = (each for each in self._universe.suffixes[bits] if each != after)
        ordered = sorted(tokens, key=lambda each: (each - after if upward else after - each) % RING)
        return (TokenMapping(each, self._universe.block_of(each)) for each in ordered)


def breaks_proofs(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Each answer is wrong in one of many ways, and well sealed."""
    for message in said:
        yield me.sealed(_broken(message)) if isinstance(message, PeerAnswer) else message


def _broken(answer: PeerAnswer) -> PeerAnswer:
    ten = list(answer.signature)
    match _number(answer.ticket, answer.answer.id) % 7:
        case 0:
            ten[3] = replace(ten[3], id=ten[3].id ^ 1)
        case 1:
            ten = ten[:9]
        case 2:
            # The right low bits on the other side of the token, by whole turns of the low bits.
            ten[0] = replace(ten[0], id=(answer.answer.id - (answer.answer.id - ten[0].id) % SUFFIXES - SUFFIXES) % RING)
        case 3:
            ten[6] = replace(ten[6], block=ten[6].block ^ 1)
        case 4:
            # Much farther than anything that is held can be.
            ten[4] = replace(ten[4], id=(answer.answer.id + RING // 2 - RING // 16 - (answer.answer.id - ten[4].id) % SUFFIXES) % RING)
        case 5:
            ten[9] = replace(ten[9], id=ten[8].id)
        case _:
            return replace(answer, answer=replace(answer.answer, id=answer.answer.id ^ SUFFIXES))
    return replace(answer, signature=ten)


def answers_twice(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """The second time it blocks its own channel."""
    for message in said:
        yield message
        if isinstance(message, PeerAnswer):
            yield message


def takes_others_tickets(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Answers under tickets that are not its own: of nobody, and of somebody else's election."""
    for message in said:
        yield message
        if isinstance(message, PeerAnswer):
            yield me.sealed(replace(message, ticket=message.ticket ^ 1))
            other = me.peers[_number(message.ticket) % len(me.peers)]
            yield me.sealed(replace(message, requester=other))


def repeats_others(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Says again, in their name, some of what others say: answers, referrals, queries."""
    yield from said
    if not isinstance(heard, PeerAnswer | PeerReferral | PeerQuery) or heard.ticket % 3:
        return
    match heard:
        case PeerAnswer() | PeerReferral() if heard.to != me.id:
            yield heard
        case PeerQuery() if heard.to != me.id and heard.requester != me.id:
            yield replace(heard, sender=me.id)
        case _:
            pass


def steals_proofs(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Seals others' proofs as its own, for the same ticket: it costs them the channel, and the thief its name."""
    yield from said
    if isinstance(heard, PeerAnswer) and heard.to != me.id:
        yield me.sealed(heard)


def bad_seals(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Seals that are none, or over something else, before what is right."""
    for message in said:
        if isinstance(message, PeerAnswer | PeerInvite | PeerReferral):
            yield replace(message, seal=message.seal[:-1] + bytes([message.seal[-1] ^ 1]))
            yield replace(message, seal=message.seal[:32] + me.seal(b"something else")[32:])
        yield message


def refers_nowhere(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Never answers: names peers that do not exist, the requester itself, nobody."""
    yield from (message for message in said if not isinstance(message, PeerAnswer))
    if isinstance(heard, PeerQuery) and me.is_asked(heard):
        stranger = _number(heard.ticket) or 1
        two = ([stranger, 0], [heard.requester, stranger], [0, 0], [me.id, heard.requester])[heard.ticket % 4]
        yield _referral(me, heard, two)


def refers_unasked(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Refers whoever asks anybody to itself, and whoever asked it twice."""
    yield from said
    if isinstance(heard, PeerQuery) and heard.requester != me.id:
        yield _referral(me, heard, [me.id, _number(heard.ticket) or 1])


def _referral(me: Liar, heard: PeerQuery, suggestions: list[int]) -> PeerReferral:
    referral = PeerReferral(
        token=heard.token, ticket=heard.ticket, requester=heard.requester, sender=me.id, suggestions=suggestions, seal=b""
    )
    return replace(referral, seal=me.seal(referral_bytes(referral)))


def floods(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Queries and invitations by the handful when it begins an election, each with a ticket of its own."""
    yield from said
    begun = [message.ticket for message in said if isinstance(message, PeerQuery) and message.requester == me.id]
    if not isinstance(heard, PeersDue) or not begun:
        return
    for n, peer in enumerate(me.peers):
        token = me.universe.ring[_number(peer, n, begun[0]) % TOKENS]
        for number in range(4):
            # But for one, which comes again and again.
            fresh = _number(peer, number, begun[0] if number else 0)
            query = PeerQuery(to=peer, token=token, requester=me.id, ticket=fresh, ttl=255, hop=peer, sender=me.id, seal=b"")
            yield replace(query, seal=me.seal(query_bytes(token, me.id, fresh)))
            invite = PeerInvite(sender=me.id, to=peer, token=token, ticket=fresh, seal=b"")
            yield replace(invite, seal=me.seal(invite_bytes(me.id, peer, token, fresh)))


def cheats_in_introductions(me: Liar, heard: Message, said: Sequence[Traffic]) -> Iterator[Traffic]:
    """Proofs that are none where it is invited, for nobody's challenge, and twice."""
    for message in said:
        match message:
            case PeerAccept(proof=proof):
                yield replace(message, proof=me.sealed(replace(proof, ticket=proof.ticket ^ 1)))
                yield replace(message, proof=me.sealed(_broken(proof)))
                yield message
            case PeerConfirm(proof=proof):
                yield replace(message, proof=me.sealed(_broken(proof)))
                yield message
            case _:
                yield message


LIES: dict[str, Lie] = {
    lie.__name__: lie
    for lie in (
        silent,
        forges,
        proves_another_block,
        breaks_proofs,
        answers_twice,
        takes_others_tickets,
        repeats_others,
        steals_proofs,
        bad_seals,
        refers_nowhere,
        refers_unasked,
        floods,
        cheats_in_introductions,
    )
}
# Who tells these holds nothing; and with these, three answers are not enough for a majority.
EMPTY_HANDED = frozenset({"forges"})
MANY_NEEDED = frozenset({"steals_proofs"})


class LyingPeers(PeerElections):
    """Takes part as an honest one, and says something else."""

    def __init__(
        self,
        config: PeersConfig,
        persona: Persona,
        nodes: Mapping[str, int],
        tokens: Callable[[View], Tokens],
        *,
        lies: Sequence[str],
        universe: ChainUniverse,
        honest: frozenset[str],
    ) -> None:
        super().__init__(config, persona, nodes, tokens)
        self._lies = [LIES[name] for name in lies]
        self._honest = honest
        self._me = Liar(persona, self.self_id, [peer for peer in nodes.values() if peer != self.self_id], universe)

    def decide(self, view: View, message: Message, context: Context, *, sequence: int) -> Decision | Rejection:
        decision = super().decide(view, message, context, sequence=sequence)
        # Liars that answered each other would never cease.
        if isinstance(decision, Rejection) or (isinstance(message, _TRAFFIC) and context.node not in self._honest):
            return decision
        honestly = [said_of(event) for event in decision.events if isinstance(event, PeerSaid)]
        told = reduce(lambda said, lie: list(lie(self._me, message, said)), self._lies, honestly)
        events = [event for event in decision.events if not isinstance(event, PeerSaid)]
        said = [PeerSaid(name=each.spec.name, body=encode(each)) for each in told]
        return Decision(events=[*said, *events], timers=decision.timers, reply=decision.reply)
