"""A node's part in peer elections, as one state machine: an input with its time and entropy in, messages and facts out.

    participant = Participant(new_state(self_id, config), ports, config)
    effects = participant.step(Heard(sender, message), now_ms=now_ms, entropy=entropy)
    participant.due_ms()            # when a Tick is due
    participant.state()             # all that a restart needs

The same inputs from the same state give the same effects: a replay elects the same.
"""

from collections.abc import Mapping
from typing import assert_never

import msgspec

from messages.peers import PeerAccept, PeerAnswer, PeerConfirm, PeerInvite, PeerPurpose, PeerQuery, PeerReferral
from subsystems.elections.peers.adapting import Adaptation
from subsystems.elections.peers.choosing import Challenge, next_challenge
from subsystems.elections.peers.config import PeerMode, PeersConfig
from subsystems.elections.peers.election import PeerElection
from subsystems.elections.peers.introducing import Introducing
from subsystems.elections.peers.local import Effect, Introduction, Local, Ports, Remembered, Running, State
from subsystems.elections.peers.measures import Measures
from subsystems.elections.peers.responding import Responding
from subsystems.elections.peers.roster import Peer, Roster, Step
from subsystems.elections.peers.running import Own
from subsystems.elections.peers.traffic import Traffic

__all__ = [
    "Blacklisted",
    "Governance",
    "Heard",
    "Identified",
    "Input",
    "Participant",
    "SessionChanged",
    "Start",
    "Tick",
    "new_state",
    "resumed",
]

# Blocks of blacklisted chains that are remembered: the latest.
_VOID_MAX = 4_096


class Start(msgspec.Struct, frozen=True):
    """Hold an election about this token, which was chosen here; without one, about a token as for a discovery."""

    token: int | None = None


class Tick(msgspec.Struct, frozen=True):
    """It is time."""


class Heard(msgspec.Struct, frozen=True):
    """A message came; that `sender` sent it has been checked by whoever carries it."""

    sender: int
    message: Traffic


class Identified(msgspec.Struct, frozen=True):
    """These peers exist: from the configuration, or from another source of addresses."""

    peers: tuple[int, ...]


class Governance(msgspec.Struct, frozen=True):
    """No new elections while it is held; those under way go on."""

    held: bool


class SessionChanged(msgspec.Struct, frozen=True):
    """The validators are others: who one's peers are is looked at again soon, by everybody at another time."""


class Blacklisted(msgspec.Struct, frozen=True):
    """Blocks, as mappings name them, of a blacklisted chain: nobody can agree on them any more. `lifted`: pardoned."""

    blocks: tuple[int, ...]
    lifted: bool = False


Input = Start | Tick | Heard | Identified | Governance | SessionChanged | Blacklisted


def new_state(self_id: int, config: PeersConfig) -> State:
    """A node that knows nobody."""
    adaptation = Adaptation(threshold=config.election.consensus_threshold, interval_ms=config.interval_ms)
    return State(self_id=self_id, adaptation=adaptation)


def resumed(state: State, config: PeersConfig) -> State:
    """A stored state under a configuration that may be another one: what is not adapted is as it is configured."""
    adaptation = state.adaptation
    if not config.adaptive_threshold:
        adaptation.threshold = config.election.consensus_threshold
    if not config.adaptive_interval:
        adaptation.interval_ms = config.interval_ms
    return state


class Participant:
    """One node. `step` is the only way to change it."""

    def __init__(self, state: State, ports: Ports, config: PeersConfig) -> None:
        self._config = config
        self._local = Local(state, ports, config)
        self._introducing = Introducing(self._local)
        self._responding = Responding(self._local)
        self._own = Own(self._local, self._introducing)

    def step(self, input: Input, *, now_ms: int, entropy: bytes) -> list[Effect]:
        """Take one input. `entropy`: fresh bytes, recorded with the input; `now_ms` never goes back."""
        local = self._local
        local.begin(now_ms, entropy)
        if local.state.next_start_ms == 0:
            # Somewhere within the first interval: nodes that start together do not ask together.
            local.state.next_start_ms = now_ms + 1 + local.draw.below(self._config.interval_ms)
        match input:
            case Start(token):
                self._start(token)
            case Tick():
                pass
            case Heard(sender, message):
                self._heard(sender, message)
            case Identified(peers):
                for peer in peers:
                    local.roster.identify(peer, now_ms)
            case Governance(held):
                local.state.held = held
            case SessionChanged():
                soon_ms = now_ms + 1 + local.draw.below(self._config.interval_min_ms)
                local.state.next_start_ms = min(local.state.next_start_ms, soon_ms)
            case Blacklisted(blocks, lifted):
                self._blacklisted(blocks, lifted)
            case _:
                assert_never(input)
        self._tick()
        return local.effects

    # ------------------------------------------------------------------------------------------------ inputs

    def _start(self, token: int | None) -> None:
        if self._config.mode is PeerMode.OFF:
            return self._local.refuse("off", 0, 0)
        if token is not None:
            return self._own.start(token, PeerPurpose.ASKED)
        challenge = self._challenge(verify=False)
        if challenge is None or self._own.election(challenge.token) is not None:
            return self._local.refuse("no_token", 0, 0)
        return self._own.start(challenge.token, PeerPurpose.ASKED, challenge.hop)

    def _challenge(self, *, verify: bool) -> Challenge | None:
        local = self._local
        return next_challenge(local.tokens, local.roster, self._config, local.draw, verify=verify)

    def _heard(self, sender: int, message: Traffic) -> None:
        """What somebody else said before is not listened to: the author is who sends it (P24)."""
        author = _author(message)
        if author != sender:
            return self._local.refuse("not_its_own", sender, 0, type(message).__name__)
        match message:
            case PeerQuery():
                self._responding.take(message)
            case PeerAnswer():
                self._own.answered(message)
            case PeerReferral():
                self._own.referred(message)
            case PeerInvite() | PeerAccept() | PeerConfirm() if not self._config.mode.keeps_list:
                self._local.refuse("no_list_here", sender, 0)
            case PeerInvite():
                self._introducing.invited(message)
            case PeerAccept():
                self._introducing.accepted(message)
            case PeerConfirm():
                self._introducing.confirmed(message)
            case _:
                assert_never(message)
        return None

    def _blacklisted(self, blocks: tuple[int, ...], lifted: bool) -> None:
        local = self._local
        kept = [block for block in local.state.void if block not in blocks]
        local.state.void = kept if lifted else [*kept, *blocks][-_VOID_MAX:]
        local.void = frozenset(local.state.void)
        self._own.abandon_void()
        for peer in local.roster.listed:
            if peer.challenge_token and peer.challenge_block in local.void:
                local.move(peer, Step.REVOKED)

    def _tick(self) -> None:
        """What is due, whatever came: no input is needed for that but time."""
        local, config = self._local, self._config
        self._own.tick()
        self._own.watch_splits()
        if config.mode.keeps_list:
            self._introducing.tick()
        if config.mode is PeerMode.OFF or local.now_ms < local.state.next_start_ms:
            return
        # One at a time: what was missed while the node was down is not made up for.
        missed = (local.now_ms - local.state.next_start_ms) // local.state.adaptation.interval_ms
        local.state.next_start_ms += (missed + 1) * local.state.adaptation.interval_ms
        if local.state.held:
            return
        local.state.turns += 1
        challenge = self._challenge(verify=local.state.turns % 2 == 0)
        if challenge is not None and local.roster.ids:
            self._own.start(challenge.token, challenge.purpose, challenge.hop)

    # ------------------------------------------------------------------------------------------------ reading

    def due_ms(self) -> int:
        """When a Tick is due next; after a step this is later than its time."""
        local, due = self._local, self._own.due_ms()
        if self._config.mode.keeps_list:
            due += self._introducing.due_ms()
        quiet_ms = local.state.splits.quiet_ms(self._config)
        if quiet_ms is not None:
            due.append(quiet_ms)
        if self._config.mode is not PeerMode.OFF:
            due.append(local.state.next_start_ms)
        return max(min(due, default=local.now_ms + self._config.interval_ms), local.now_ms + 1)

    def state(self) -> State:
        """All there is, as of the last step; to be stored, not changed."""
        state = self._local.state
        state.elections = self._own.running()
        state.finished = _remembered(self.finished)
        state.handled = _remembered(self.handled)
        state.introductions = self.introductions
        state.peers = self._local.roster.peers
        return state

    @property
    def course(self) -> State:
        """What is left of the state without what the other properties here give."""
        return self._local.state

    @property
    def elections(self) -> list[Running]:
        """One's own that run."""
        return self._own.running()

    @property
    def introductions(self) -> list[Introduction]:
        return self._introducing.open()

    @property
    def finished(self) -> Mapping[int, int]:
        """Tickets of elections that ended of late, the oldest first, and until when they are remembered."""
        return self._own.finished

    @property
    def handled(self) -> Mapping[int, int]:
        """Tickets of others' queries, in the same way."""
        return self._responding.handled

    def election(self, token: int) -> PeerElection | None:
        """A running election of one's own."""
        return self._own.election(token)

    def token_of(self, ticket: int) -> int | None:
        """The running election of a ticket: one look-up."""
        return self._own.token_of(ticket)

    @property
    def roster(self) -> Roster:
        return self._local.roster

    @property
    def peer_list(self) -> list[Peer]:
        """The elected peers, by id."""
        return self._local.roster.listed

    @property
    def measures(self) -> Measures:
        return self._local.state.measures

    @property
    def threshold(self) -> int:
        """The consensus threshold of elections from now on."""
        return self._local.state.adaptation.threshold


def _remembered(tickets: Mapping[int, int]) -> list[Remembered]:
    return [Remembered(ticket, until_ms) for ticket, until_ms in tickets.items()]


def _author(message: Traffic) -> int:
    match message:
        case PeerAnswer():
            return message.responder
        case PeerAccept() | PeerConfirm():
            return message.proof.responder
        case PeerQuery() | PeerReferral() | PeerInvite():
            return message.sender
        case _:
            assert_never(message)
