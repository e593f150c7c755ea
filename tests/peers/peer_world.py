"""What the tests of peer elections share: seals without keys, tokens that make any proof, and a driven participant."""

from collections.abc import Iterable, Sequence
from itertools import count

import msgspec
from blake3 import blake3

from messages.peers import PeerAnswer, PeerEvent, PeerQuery, PeerReferral, TokenMapping
from subsystems.elections.peers.config import ElectionConfig, PeersConfig
from subsystems.elections.peers.election import PeerElection
from subsystems.elections.peers.local import Effect, Ports, Send, State
from subsystems.elections.peers.participant import Heard, Identified, Input, Participant, Tick, new_state
from subsystems.elections.peers.proof import chunks
from subsystems.elections.peers.ring import RING
from subsystems.elections.peers.tokens import MemoryTokens, Tokens, low
from subsystems.elections.peers.traffic import Seal, answer_bytes, query_bytes, referral_bytes

SECRET = bytes(range(32))
BLOCK = 42
# As if every 2^20th id were a token.
SPACING = 1 << 20
# A challenge token in the middle of the dense part.
TOKEN = 1 << 50


def seal_of(peer: int) -> Seal:
    """A stand-in for a signature: everybody here knows everybody's key, and nobody uses another's."""
    return lambda message: blake3(message + peer.to_bytes(8, "little")).digest()


def authentic(peer: int, message: bytes, seal: bytes) -> bool:
    return seal_of(peer)(message) == seal


def made_proof(requester: int, token: int, block: int = BLOCK, *, own: int = 0, of: int = 0) -> tuple[TokenMapping, ...]:
    """Ten mappings with the right low bits, order and side. Those of different `own` differ in their last `of` blocks."""
    found: list[TokenMapping] = []
    at = token
    for n, bits in enumerate(chunks(requester, token, block)):
        if n == 5:
            at = token
        near = (at + 2048 if n < 5 else at - 2048) % RING
        at = (near - low(near) + bits) % RING
        found.append(TokenMapping(at, 7 + (own if n >= 10 - of else 0)))
    return tuple(found)


def answer(
    requester: int, responder: int, ticket: int, token: int = TOKEN, *, block: int = BLOCK, own: int = 0, of: int = 0, sealed: bool = True
) -> PeerAnswer:
    """A responder's signed answer. Two of them share 10 - `of` mappings if their `own` differ."""
    unsealed = PeerAnswer(
        requester=requester,
        responder=responder,
        ticket=ticket,
        answer=TokenMapping(token, block),
        signature=made_proof(requester, token, block, own=own, of=of),
        seal=b"",
    )
    return resealed(unsealed) if sealed else unsealed


def resealed(answer: PeerAnswer, /, **changed: object) -> PeerAnswer:
    """The answer with other fields, sealed by its responder."""
    other = msgspec.structs.replace(answer, **changed)
    return msgspec.structs.replace(other, seal=seal_of(other.responder)(answer_bytes(other)))


def referral(requester: int, sender: int, ticket: int, suggestions: list[int], token: int = TOKEN) -> PeerReferral:
    unsealed = PeerReferral(token=token, ticket=ticket, requester=requester, sender=sender, suggestions=suggestions, seal=b"")
    return msgspec.structs.replace(unsealed, seal=seal_of(sender)(referral_bytes(unsealed)))


def query(requester: int, hop: int, ticket: int, token: int = TOKEN, *, ttl: int = 8, sender: int | None = None) -> PeerQuery:
    seal = seal_of(requester)(query_bytes(token, requester, ticket))
    return PeerQuery(to=hop, token=token, requester=requester, ticket=ticket, ttl=ttl, hop=hop, sender=sender or requester, seal=seal)


def an_election(requester: int = 1, token: int = TOKEN, *, tokens: Tokens | None = None, **rules: int) -> PeerElection:
    return PeerElection(
        requester=requester,
        token=token,
        secret=SECRET,
        tokens=tokens or MemoryTokens([TokenMapping(token, BLOCK)]),
        authentic=authentic,
        config=ElectionConfig(**rules),
    )


def voted(groups: Sequence[int], *, token: int = TOKEN, peers: Iterable[int] | None = None, **rules: int) -> PeerElection:
    """An election with answers of groups of such sizes: who is in a group agrees on all, nobody agrees across."""
    election = an_election(1, token, **rules)
    ids = iter(peers or count(101))
    for group, size in enumerate(groups):
        for _ in range(size):
            peer = next(ids)
            ticket = election.create_channel(peer)
            assert isinstance(ticket, int)
            election.handle_answer(answer(1, peer, ticket, token, own=group + 1, of=10))
    return election


class Driven:
    """One participant with its own clock: steps, and what came of them."""

    def __init__(
        self,
        self_id: int = 1,
        peers: Iterable[int] = (),
        config: PeersConfig | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self.config = config or PeersConfig()
        self.ports = Ports(tokens=tokens or MemoryTokens([TokenMapping(TOKEN, BLOCK)]), seal=seal_of(self_id), authentic=authentic)
        self.self_id = self_id
        self.now_ms = 1_000_000_000
        self.node = Participant(new_state(self_id, self.config), self.ports, self.config)
        self.facts: list[PeerEvent] = []
        self.sent: list[Send] = []
        self._drawn = 0
        self.step(Identified(tuple(peers)))

    def step(self, input: Input) -> list[Effect]:
        self._drawn += 1
        effects = self.node.step(input, now_ms=self.now_ms, entropy=self._drawn.to_bytes(8, "big"))
        for effect in effects:
            if isinstance(effect, Send):
                self.sent.append(effect)
            else:
                self.facts.append(effect)
        return effects

    def hear(self, message: PeerAnswer | PeerReferral | PeerQuery, sender: int | None = None) -> list[Effect]:
        author = message.responder if isinstance(message, PeerAnswer) else message.sender
        return self.step(Heard(sender or author, message))

    def wait(self, ms: int) -> list[Effect]:
        """Let time pass, a tick whenever one is due."""
        end, effects = self.now_ms + ms, list[Effect]()
        while (due := self.node.due_ms()) <= end:
            self.now_ms = max(due, self.now_ms)
            effects += self.step(Tick())
        self.now_ms = end
        return effects

    def queries(self, token: int = TOKEN) -> dict[int, PeerQuery]:
        """The last query to each hop about a token."""
        return {send.to: send.message for send in self.sent if isinstance(send.message, PeerQuery) and send.message.token == token}

    def reply(self, hop: int, *, own: int = 0, of: int = 0, token: int = TOKEN) -> list[Effect]:
        """Let the hop answer what it was asked."""
        return self.hear(answer(self.self_id, hop, self.queries(token)[hop].ticket, token, own=own, of=of))

    def told(self, kind: type[PeerEvent]) -> list[PeerEvent]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def refusals(self) -> dict[str, int]:
        return self.node.measures.refusals

    def restart(self, state: State | None = None) -> None:
        """The process is gone; another begins with the stored state, or with another one, which has been through bytes."""
        stored = msgspec.msgpack.encode(state or self.node.state())
        self.node = Participant(msgspec.msgpack.decode(stored, type=State), self.ports, self.config)
