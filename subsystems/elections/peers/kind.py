"""Peer elections as a kind of the runtime: what a node hears becomes inputs of its participant, and what comes of them is recorded.

They concern no election of the runtime's own: a node's part in them is its own, with its own rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from blake3 import blake3

from messages.chain_api import GovernanceModeLeft
from messages.codec import decode, encode
from messages.message import CATALOG, Message, Rejection
from messages.message import Kind as MessageKind
from messages.peer_queries import (
    ChallengeBegun,
    ChallengeFault,
    ChallengePeers,
    ChallengeRefused,
    DropTokens,
    HoldTokens,
    PeerHistory,
    Peers,
    TokensTaken,
)
from messages.peers import (
    PeerAccept,
    PeerAdapted,
    PeerAnswer,
    PeerAnswerTaken,
    PeerChannelOpened,
    PeerConfirm,
    PeerElectionEnded,
    PeerElectionStarted,
    PeerInvite,
    PeerMoved,
    PeerPassedOver,
    PeerQuery,
    PeerQueryHandled,
    PeerReferral,
    PeerSaid,
    PeersDue,
    PeerSplitAlert,
    PeerSplitSeen,
    PeerStateMoved,
    PeerTrafficRefused,
    TokenMapping,
    TokensDropped,
    TokensHeld,
)
from messages.signals import BlocksBlacklisted, GovernanceMode, GovernanceState, SessionChange
from overseer.subsystem import Check, Context, Decision, SetTimer
from overseer.tables import Tables, View
from subsystems.elections.kind import KindDeclaration
from subsystems.elections.peers import answers
from subsystems.elections.peers.config import PeersConfig
from subsystems.elections.peers.local import Effect, Ports, Send, State
from subsystems.elections.peers.measures import Measures
from subsystems.elections.peers.participant import (
    Blacklisted,
    Governance,
    Heard,
    Identified,
    Input,
    Participant,
    SessionChanged,
    Start,
    Tick,
    new_state,
    resumed,
)
from subsystems.elections.peers.roster import Roster
from subsystems.elections.peers.rows import MEASURES, TABLES, Mirror, apply_rows, loaded, note_ended, step_of
from subsystems.elections.peers.tokens import TableTokens, Tokens, drop_token, holds_any, put_token
from subsystems.elections.peers.traffic import SEAL_KEY_BYTES, Traffic, key_authentic, key_seal, peer_id, seals_of

__all__ = ["PeerElections", "Persona", "block_number", "said_of"]

_TRAFFIC = (PeerQuery, PeerAnswer, PeerReferral, PeerInvite, PeerAccept, PeerConfirm)
_TOLD = (PeerElectionEnded, PeerMoved, PeerSplitAlert)
_COMMANDS = (HoldTokens, DropTokens, ChallengePeers)
_SCHEME = "ed25519"
_TIMER = "peers"
# Names a step.
_STEP_BYTES = 16
_FAULTS = {str(fault): fault for fault in ChallengeFault}

DECLARATION = KindDeclaration(
    name="peers",
    consumes=(*_COMMANDS, *_TRAFFIC, BlocksBlacklisted, GovernanceMode, GovernanceModeLeft, SessionChange),
    requests=_COMMANDS,
    events=(
        *_TOLD,
        PeerElectionStarted,
        PeerChannelOpened,
        PeerAnswerTaken,
        PeerTrafficRefused,
        PeerSplitSeen,
        PeerPassedOver,
        PeerQueryHandled,
        PeerAdapted,
        PeerSaid,
        PeerStateMoved,
        TokensHeld,
        TokensDropped,
    ),
    terminal=(),
    sends=(*_TRAFFIC, *_TOLD),
    answers=(Peers, PeerHistory),
    timers=(PeersDue,),
    rejections=(ChallengeRefused,),
    tables=TABLES,
)


class Persona(Protocol):
    """Who this node is: its Ed25519 key."""

    @property
    def public(self) -> bytes: ...

    def sign(self, payload: bytes) -> bytes: ...


def block_number(block: bytes) -> int:
    """As which number a mapping names a block of the chain: the first 8 bytes of its hash, little-endian."""
    return int.from_bytes(block[:8], "little")


class _World:
    """What the participant sees of the world, as of the message that is decided: the node's tokens, and whose seals are good."""

    def __init__(self, held: Callable[[View], Tokens], view: View, context: Context) -> None:
        self._held = held
        self.enter(view, context)

    def enter(self, view: View, context: Context) -> None:
        self._tokens = self._held(view)
        self._context = context

    def block_of(self, token: int) -> int | None:
        return self._tokens.block_of(token)

    def with_low_bits(self, bits: int, *, after: int, upward: bool) -> Iterator[TokenMapping]:
        return self._tokens.with_low_bits(bits, after=after, upward=upward)

    def around(self, place: int, *, upward: bool) -> Iterator[int]:
        return self._tokens.around(place, upward=upward)

    def verified(self, key: bytes, message: bytes, signature: bytes) -> bool:
        return len(key) == SEAL_KEY_BYTES and self._context.verify(Check(_SCHEME, key, message, signature))


class _Present:
    """The participant in memory, as the rows of `step` have it."""

    def __init__(self, view: View, stored: State, participant: Participant, world: _World) -> None:
        self.step = step_of(view)
        self.world = world
        self.participant = participant
        self.mirror = Mirror(view, stored)
        # When it is due next, as far as a timer is set for that.
        self.due_ms = 0


class PeerElections:
    """A node's part in peer elections (P01 to P27). `nodes`: the ids of the network's nodes as peers, by name."""

    def __init__(
        self, config: PeersConfig, persona: Persona, nodes: Mapping[str, int], tokens: Callable[[View], Tokens] = TableTokens
    ) -> None:
        """`tokens`: what the node holds, where that is more than what it was told to hold."""
        self.config = config
        self._tokens = tokens
        self._persona = persona
        self._nodes = dict(nodes)
        # Not a part of the state: only ever used with the rows that it left itself.
        self._present: _Present | None = None

    @property
    def declaration(self) -> KindDeclaration:
        return DECLARATION

    @property
    def self_id(self) -> int:
        return peer_id(self._persona.public)

    # ------------------------------------------------------------------------------------------------ deciding

    def decide(self, view: View, message: Message, context: Context, *, sequence: int) -> Decision | Rejection:
        """Everything is one step of the participant. Rejects with ChallengeRefused."""
        match message:
            case HoldTokens():
                return self._hold(view, message, context)
            case DropTokens():
                return self._drop(view, message, context)
            case ChallengePeers():
                return self._challenge(view, message, context)
            case _:
                input = self._input(message, context)
                return Decision() if input is None else self._decision(view, context, input)

    def _input(self, message: Message, context: Context) -> Input | None:
        """None for what is not this node's."""
        match message:
            case PeersDue():
                return Tick()
            case GovernanceMode():
                return Governance(held=message.state is GovernanceState.ENTERED)
            case BlocksBlacklisted():
                return Blacklisted(tuple(map(block_number, message.hashes)))
            case GovernanceModeLeft():
                return Blacklisted(tuple(map(block_number, message.roots)), lifted=True)
            case SessionChange():
                return SessionChanged()
            case PeerQuery() | PeerAnswer() | PeerReferral() | PeerInvite() | PeerAccept() | PeerConfirm():
                sender = self._nodes.get(context.node)
                return Heard(sender, message) if sender is not None and message.to == self.self_id else None
            case _:
                return None

    def _hold(self, view: View, message: HoldTokens, context: Context) -> Decision:
        held = TableTokens(view)
        fresh = {mapping.id: mapping for mapping in message.tokens if held.block_of(mapping.id) != mapping.block}
        events: list[Message] = [TokensHeld(tokens=list(fresh.values()))] if fresh else []
        return self._decision(view, context, Tick(), events, TokensTaken(changed=len(fresh)))

    def _drop(self, view: View, message: DropTokens, context: Context) -> Decision:
        held = TableTokens(view)
        gone = [token for token in dict.fromkeys(message.tokens) if held.block_of(token) is not None]
        events: list[Message] = [TokensDropped(tokens=gone)] if gone else []
        return self._decision(view, context, Tick(), events, TokensTaken(changed=len(gone)))

    def _challenge(self, view: View, message: ChallengePeers, context: Context) -> Decision | Rejection:
        decision = self._decision(view, context, Start(message.token))
        for event in decision.events:
            if isinstance(event, PeerTrafficRefused) and event.peer == 0 and event.code in _FAULTS:
                # Nothing of this is recorded.
                self._present = None
                return ChallengeRefused(reason=_FAULTS[event.code])
        begun = [event.token for event in decision.events if isinstance(event, PeerElectionStarted)]
        token = begun[0] if message.token is None else message.token
        reply = ChallengeBegun(token=token, already=token not in begun)
        return Decision(events=decision.events, timers=decision.timers, reply=reply)

    def _decision(
        self, view: View, context: Context, input: Input, events: Sequence[Message] = (), reply: Message | None = None
    ) -> Decision:
        """One step, behind `events`."""
        present = self._entered(view, context)
        participant, effects = present.participant, list[Effect]()
        strangers = self._unseen(participant.roster)
        for each in (Identified(strangers), input) if strangers else (input,):
            effects += participant.step(each, now_ms=context.now_ms, entropy=context.entropy)
        present.step = blake3((present.step or b"") + context.entropy).digest()[:_STEP_BYTES]
        moved = PeerStateMoved(rows=present.mirror.moved(participant, present.step))
        recorded = [*events, *map(_recorded, effects), moved]
        due_ms, timers = participant.due_ms(), list[SetTimer]()
        # Who holds nothing and has nobody sleeps until it is given something.
        sleeps = not (events or participant.elections or participant.roster.listed or holds_any(present.world))
        if not sleeps and (due_ms != present.due_ms or isinstance(input, Tick)):
            present.due_ms = due_ms
            timers.append(SetTimer(key=_TIMER, at_ms=due_ms, message=PeersDue()))
        return Decision(events=recorded, timers=timers, reply=reply)

    def _entered(self, view: View, context: Context) -> _Present:
        """The participant as `view` has it: that of the step before, unless that was not recorded."""
        present = self._present
        if present is None or present.step != step_of(view):
            world = _World(self._tokens, view, context)
            ports = Ports(tokens=world, seal=key_seal(self._persona.public, self._persona.sign), authentic=key_authentic(world.verified))
            stored = loaded(view) or new_state(self.self_id, self.config)
            # Another key is another peer: it knows nobody.
            is_same = stored.self_id == self.self_id
            state = resumed(stored, self.config) if is_same else new_state(self.self_id, self.config)
            participant = Participant(state, ports, self.config)
            if not is_same:
                participant.roster.touched.update(peer.id for peer in stored.peers)
            present = self._present = _Present(view, stored, participant, world)
        present.world.enter(view, context)
        return present

    # ------------------------------------------------------------------------------------------------ the rest

    def _unseen(self, roster: Roster) -> tuple[int, ...]:
        """The network's nodes that the roster does not have; they come and go with the configuration."""
        return tuple(peer for peer in sorted(self._nodes.values()) if roster.find(peer) is None and peer != self.self_id)

    def due(self, view: View, key: str) -> bool:
        return False

    def evolve(self, tables: Tables, event: Message) -> None:
        match event:
            case PeerStateMoved():
                apply_rows(tables, event.rows)
            case TokensHeld():
                for mapping in event.tokens:
                    put_token(tables, mapping)
            case TokensDropped():
                for token in event.tokens:
                    drop_token(tables, token)
            case PeerElectionStarted() | PeerChannelOpened() | PeerAnswerTaken() | PeerTrafficRefused() | PeerElectionEnded():
                # What is counted; the other facts change no row.
                measures = tables.get(MEASURES, (0,)) or Measures()
                measures.apply(event)
                tables.put(MEASURES, (0,), measures)
                if isinstance(event, PeerElectionEnded):
                    note_ended(tables, measures.ended, event)
            case _:
                pass

    def react(self, event: Message) -> Iterable[Message]:
        """What is said to peers; the outcomes of elections and the moves in the list are facts."""
        if isinstance(event, PeerSaid):
            return (said_of(event),)
        return (event,) if isinstance(event, _TOLD) else ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        return answers.answer(view, query, self.self_id, self.config, {peer: node for node, peer in self._nodes.items()})

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        """The seals of what is for this node."""
        if not isinstance(message, _TRAFFIC) or message.to != self.self_id:
            return ()
        return [Check(_SCHEME, seal[:SEAL_KEY_BYTES], payload, seal[SEAL_KEY_BYTES:]) for payload, seal in seals_of(message)]


def said_of(event: PeerSaid) -> Traffic:
    """The message that was said."""
    spec = CATALOG.find(MessageKind.NETWORK, "elections", event.name)
    message = None if spec is None else decode(spec, event.body)
    assert isinstance(message, _TRAFFIC), f"{event.name} is nothing that peers say"
    return message


def _recorded(effect: Effect) -> Message:
    """As it is in the journal."""
    if not isinstance(effect, Send):
        return effect
    return PeerSaid(name=effect.message.spec.name, body=encode(effect.message))
