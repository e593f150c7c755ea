"""What the parts of a node's participation share while one input is taken: its state, its ports, the time, and what comes of it."""

import msgspec

from messages.peers import PeerEvent, PeerMoved, PeerPurpose, PeerTrafficRefused
from subsystems.elections.peers.adapting import Adaptation, SplitWatch
from subsystems.elections.peers.config import PeersConfig
from subsystems.elections.peers.election import ElectionState
from subsystems.elections.peers.measures import Measures
from subsystems.elections.peers.ring import Draw
from subsystems.elections.peers.roster import Peer, PeerState, Roster, Step
from subsystems.elections.peers.tokens import Tokens
from subsystems.elections.peers.traffic import Authentic, Seal, Traffic

__all__ = ["Effect", "Introduction", "Local", "Ports", "Remembered", "Running", "Send", "State"]


class Send(msgspec.Struct, frozen=True):
    """A message for one peer."""

    message: Traffic

    @property
    def to(self) -> int:
        return self.message.to


Effect = Send | PeerEvent


class Running(msgspec.Struct, kw_only=True):
    """An election of one's own that has not ended."""

    election: ElectionState
    purpose: PeerPurpose
    started_ms: int
    split_seen: bool = False
    # As adapted when it began.
    threshold: int
    # When it last opened channels, and when a split is looked at again though no answer came; 0 for not.
    asked_ms: int = 0
    again_ms: int = 0


class Remembered(msgspec.Struct, frozen=True, array_like=True):
    """A ticket that is known for a while."""

    ticket: int
    until_ms: int


class Introduction(msgspec.Struct, frozen=True, kw_only=True):
    """A challenge of one's own that a peer has not answered yet."""

    ticket: int
    peer: int
    token: int
    until_ms: int


class State(msgspec.Struct, kw_only=True):
    """All that a node's participation is; a restart begins with it (P23)."""

    self_id: int
    elections: list[Running] = msgspec.field(default_factory=list[Running])
    finished: list[Remembered] = msgspec.field(default_factory=list[Remembered])
    handled: list[Remembered] = msgspec.field(default_factory=list[Remembered])
    introductions: list[Introduction] = msgspec.field(default_factory=list[Introduction])
    peers: list[Peer] = msgspec.field(default_factory=list[Peer])
    # The latest first hops, the last one last.
    recent: list[int] = msgspec.field(default_factory=list[int])
    # 0 before the first input.
    next_start_ms: int = 0
    turns: int = 0
    held: bool = False
    void: list[int] = msgspec.field(default_factory=list[int])
    measures: Measures = msgspec.field(default_factory=Measures)
    splits: SplitWatch = msgspec.field(default_factory=SplitWatch)
    adaptation: Adaptation


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """What a participation needs of the world: its tokens, its own seal, and the check of others'."""

    tokens: Tokens
    seal: Seal
    authentic: Authentic


class Local:
    """The node, as of one input."""

    def __init__(self, state: State, ports: Ports, config: PeersConfig) -> None:
        self.state = state
        self.tokens = ports.tokens
        self.seal = ports.seal
        self.authentic = ports.authentic
        self.config = config
        self.roster = Roster(state.peers, state.self_id, config)
        self.void = frozenset(state.void)
        self.now_ms = 0
        self.draw = Draw(b"", "")
        self.effects: list[Effect] = []

    @property
    def self_id(self) -> int:
        return self.state.self_id

    def begin(self, now_ms: int, entropy: bytes) -> None:
        """The next input: its time, and what it may draw from."""
        self.now_ms = now_ms
        self.draw = Draw(entropy, "peers")
        self.effects = []

    def send(self, message: Traffic) -> None:
        self.effects.append(Send(message))

    def report(self, fact: PeerEvent) -> None:
        """Every fact is counted as it is told."""
        self.state.measures.apply(fact)
        self.effects.append(fact)

    def refuse(self, code: str, peer: int, ticket: int, detail: str = "") -> None:
        self.report(PeerTrafficRefused(at_ms=self.now_ms, code=str(code), peer=peer, ticket=ticket, detail=str(detail)))

    def move(self, peer: Peer, step: Step) -> None:
        """A step in the list, told where it leads elsewhere."""
        before = peer.state
        if self.roster.step(peer, step) and peer.state is not before:
            self.report(PeerMoved(at_ms=self.now_ms, peer=peer.id, step=step, before=before, after=peer.state))
            if PeerState.IDENTIFIED in (before, peer.state):
                self.state.adaptation.moves += 1

    def fresh_ticket(self) -> int:
        """For an introduction; never 0."""
        return self.draw.u64() or 1
