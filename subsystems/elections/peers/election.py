"""One election: channels, answers, referrals, and what they come to. Usable without anything else of this package's manager.

    election = PeerElection(requester=7, token=1000, secret=secret, tokens=tokens, authentic=authentic)
    ticket = election.create_channel(first_hop)
    election.handle_answer(answer)
    election.check_for_winner()

Nothing here reads a clock or draws a number; what is refused is returned as a Refused, and changes nothing but whom it blocks.
"""

import enum
from collections.abc import Iterable

import msgspec

from messages.peers import PeerAnswer, PeerReferral
from subsystems.elections.peers.clusters import NoConsensus, Outcome, Response, Single, judged
from subsystems.elections.peers.config import ElectionConfig
from subsystems.elections.peers.proof import Flaw, flaw_of
from subsystems.elections.peers.ring import RING, ticket
from subsystems.elections.peers.tokens import Tokens
from subsystems.elections.peers.traffic import Authentic, is_for

__all__ = ["Channel", "ChannelState", "ElectionState", "PeerElection", "Phase", "Redirected", "Refusal", "Refused", "Stored"]


class Refusal(enum.StrEnum):
    """Why something was refused; in the order in which it is looked at."""

    ELECTION_COMPLETE = "election_complete"
    SELF_REFERENCE = "self_reference"
    MAX_CHANNELS_REACHED = "max_channels_reached"
    CHANNEL_ALREADY_EXISTS = "channel_already_exists"
    PEER_ALREADY_PARTICIPATING = "peer_already_participating"
    WRONG_TOKEN = "wrong_token"
    BLOCKED_PEER = "blocked_peer"
    SIGNATURE_VERIFICATION_FAILED = "signature_verification_failed"
    UNKNOWN_TICKET = "unknown_ticket"
    CHANNEL_BLOCKED = "channel_blocked"
    DUPLICATE_RESPONSE = "duplicate_response"
    NOT_THE_HOP_ASKED = "not_the_hop_asked"
    CHANNEL_NOT_PENDING = "channel_not_pending"
    NO_VIABLE_SUGGESTIONS = "no_viable_suggestions"


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal. `flaw`: what is wrong with the proof; None where it is the seal, or another reason."""

    code: Refusal
    peer: int = 0
    ticket: int = 0
    flaw: Flaw | None = None


class Stored(msgspec.Struct, frozen=True):
    """The answer counts, from its channel."""

    ticket: int
    peer: int


class Redirected(msgspec.Struct, frozen=True):
    """The channel is closed; another one leads to `hop`."""

    ticket: int
    hop: int


class ChannelState(enum.StrEnum):
    """A channel's way: pending, responded, blocked."""

    PENDING = "pending"
    RESPONDED = "responded"
    BLOCKED = "blocked"


class Phase(enum.StrEnum):
    """An election's way."""

    COLLECTION = "collection"
    ELECTION = "election"
    COMPLETE = "complete"


class Channel(msgspec.Struct, kw_only=True):
    """One way to ask. `referrals`: how many led here. `first`: who was asked first on this way."""

    ticket: int
    hop: int
    referrals: int = 0
    first: int
    state: ChannelState = ChannelState.PENDING
    # Its place in the order of arrivals, and what came; a blocked channel has neither.
    arrival: int = 0
    response: Response | None = None


class ElectionState(msgspec.Struct, kw_only=True):
    """All that one election is: what a restart needs (P23)."""

    requester: int
    token: int
    secret: bytes
    nonce: int = 0
    arrivals: int = 0
    channels: list[Channel] = msgspec.field(default_factory=list[Channel])
    # Every hop that was ever asked: no referral leads back to one.
    asked: list[int] = msgspec.field(default_factory=list[int])
    # Their own signed answers were duplicates or bad.
    blocked: list[int] = msgspec.field(default_factory=list[int])
    collected: bool = False
    result: Outcome | None = None


class PeerElection:
    """Channels by ticket, over an ElectionState. Look-ups by ticket take constant time."""

    def __init__(
        self,
        *,
        requester: int,
        token: int,
        secret: bytes,
        tokens: Tokens,
        authentic: Authentic,
        config: ElectionConfig | None = None,
    ) -> None:
        """`secret`: 32 unpredictable bytes of this election alone."""
        if len(secret) != 32:
            raise ValueError(f"the secret of an election has 32 bytes, not {len(secret)}")
        self._enter(ElectionState(requester=requester, token=token, secret=secret), tokens, authentic, config or ElectionConfig())

    @classmethod
    def restored(cls, state: ElectionState, *, tokens: Tokens, authentic: Authentic, config: ElectionConfig) -> "PeerElection":
        """The election as it was when `state` was taken."""
        election = cls.__new__(cls)
        election._enter(state, tokens, authentic, config)
        return election

    def _enter(self, state: ElectionState, tokens: Tokens, authentic: Authentic, config: ElectionConfig) -> None:
        self.state = state
        self.config = config
        self._tokens = tokens
        self._authentic = authentic
        self._channels = {channel.ticket: channel for channel in state.channels}

    # ------------------------------------------------------------------------------------------------ reading

    @property
    def challenge_token(self) -> int:
        return self.state.token

    @property
    def phase(self) -> Phase:
        if self.state.result is not None:
            return Phase.COMPLETE
        return Phase.ELECTION if self.state.collected else Phase.COLLECTION

    @property
    def result(self) -> Outcome | None:
        """Of a complete election."""
        return self.state.result

    @property
    def channel_count(self) -> int:
        """Pending, responded and blocked ones; one that a referral closed is gone."""
        return len(self._channels)

    @property
    def can_create_channel(self) -> bool:
        return self.state.result is None and self.channel_count < self.config.max_channels

    @property
    def valid_response_count(self) -> int:
        """Responders that count: one that answered on two channels counts once, a blocked one not at all."""
        return len(self._responses())

    @property
    def blocked_peer_count(self) -> int:
        return len(self.state.blocked)

    @property
    def tickets(self) -> list[int]:
        return list(self._channels)

    def channel(self, ticket: int) -> Channel | None:
        return self._channels.get(ticket)

    def is_participating(self, peer: int) -> bool:
        """Whether it was asked, or answered."""
        return peer in self.state.asked or any(c.response is not None and c.response.peer == peer for c in self.state.channels)

    def check_for_winner(self, void: Iterable[int] = ()) -> Outcome:
        """What the answers so far come to; changes nothing. `void`: blocks of a blacklisted chain, on which nobody can agree."""
        config, unsound = self.config, frozenset(void)
        responses = [response for response in self._responses() if response.answer.block not in unsound]
        if len(responses) < config.min_cluster_size:
            return NoConsensus()
        return judged(
            responses,
            self.state.token,
            threshold=config.consensus_threshold,
            size_min=config.min_cluster_size,
            majority_percent=config.majority_percent,
            void=unsound,
        )

    def _responses(self) -> list[Response]:
        first: dict[int, Response] = {}
        for channel in sorted(self.state.channels, key=lambda c: c.arrival):
            # What a peer said before it was caught does not count either.
            if channel.response is not None and channel.response.peer not in self.state.blocked:
                first.setdefault(channel.response.peer, channel.response)
        return list(first.values())

    # ------------------------------------------------------------------------------------------------ changing

    def create_channel(self, first_hop: int) -> int | Refused:
        """The ticket of a new channel to `first_hop`, or why there is none (P04)."""
        return self._open(first_hop, 0, first_hop)

    def _open(self, hop: int, referrals: int, first: int) -> int | Refused:
        state = self.state
        refusal: Refusal | None = None
        if state.result is not None:
            refusal = Refusal.ELECTION_COMPLETE
        elif hop == state.requester:
            refusal = Refusal.SELF_REFERENCE
        elif not self.can_create_channel:
            refusal = Refusal.MAX_CHANNELS_REACHED
        elif any(channel.hop == hop for channel in state.channels):
            refusal = Refusal.CHANNEL_ALREADY_EXISTS
        elif self.is_participating(hop):
            refusal = Refusal.PEER_ALREADY_PARTICIPATING
        if refusal is not None:
            return Refused(code=refusal, peer=hop)
        number = 0
        while number == 0 or number in self._channels:
            number = ticket(state.token, hop, state.nonce, state.secret)
            state.nonce += 1
        channel = Channel(ticket=number, hop=hop, referrals=referrals, first=first)
        state.channels.append(channel)
        state.asked.append(hop)
        self._channels[number] = channel
        return number

    def handle_answer(self, answer: PeerAnswer) -> Stored | Refused:
        """Take an answer, or say why not (P05 to P08, P20, P24, P27)."""
        refused = self._refused(answer)
        if refused is not None:
            return refused
        channel = self._channels[answer.ticket]
        if channel.state is ChannelState.RESPONDED:
            channel.state, channel.response, channel.arrival = ChannelState.BLOCKED, None, 0
            self._block(answer.responder)
            return Refused(code=Refusal.DUPLICATE_RESPONSE, peer=answer.responder, ticket=answer.ticket)
        self.state.arrivals += 1
        channel.state, channel.arrival = ChannelState.RESPONDED, self.state.arrivals
        channel.response = Response(answer.responder, answer.answer, tuple(answer.signature))
        return Stored(answer.ticket, answer.responder)

    def _refused(self, answer: PeerAnswer) -> Refused | None:
        state, peer = self.state, answer.responder
        if state.result is not None:
            return Refused(code=Refusal.ELECTION_COMPLETE, peer=peer, ticket=answer.ticket)
        if answer.answer.id != state.token:
            return Refused(code=Refusal.WRONG_TOKEN, peer=peer, ticket=answer.ticket)
        if peer in state.blocked:
            return Refused(code=Refusal.BLOCKED_PEER, peer=peer, ticket=answer.ticket)
        sealed = peer not in (0, state.requester) and is_for(state.requester, answer, self._authentic)
        channel = self._channels.get(answer.ticket)
        if not sealed:
            return Refused(code=Refusal.SIGNATURE_VERIFICATION_FAILED, peer=peer, ticket=answer.ticket)
        flaw = flaw_of(
            answer.signature,
            challenger=state.requester,
            answer=answer.answer,
            tokens=self._tokens,
            contradictions_max=self.config.contradictions_max,
            familiar_min=self.config.familiar_min,
        )
        if flaw is not None:
            # What was sealed for a ticket of this election can only be its signer's own doing.
            if channel is not None:
                self._block(peer)
            return Refused(code=Refusal.SIGNATURE_VERIFICATION_FAILED, peer=peer, ticket=answer.ticket, flaw=flaw)
        if channel is None:
            return Refused(code=Refusal.UNKNOWN_TICKET, peer=peer, ticket=answer.ticket)
        if channel.state is ChannelState.BLOCKED:
            return Refused(code=Refusal.CHANNEL_BLOCKED, peer=peer, ticket=answer.ticket)
        return None

    def _block(self, peer: int) -> None:
        self.state.blocked.append(peer)

    def handle_referral(self, referral: PeerReferral) -> Redirected | Refused:
        """Follow one of two suggestions, or say why not (P10, P21). That `referral.sender` sent it has been checked."""
        state, channel = self.state, self._channels.get(referral.ticket)
        refusal: Refusal | None = None
        if state.result is not None:
            refusal = Refusal.ELECTION_COMPLETE
        elif referral.token != state.token:
            refusal = Refusal.WRONG_TOKEN
        elif channel is None:
            refusal = Refusal.UNKNOWN_TICKET
        elif channel.state is ChannelState.BLOCKED:
            refusal = Refusal.CHANNEL_BLOCKED
        elif channel.hop != referral.sender:
            refusal = Refusal.NOT_THE_HOP_ASKED
        elif channel.state is not ChannelState.PENDING:
            refusal = Refusal.CHANNEL_NOT_PENDING
        if refusal is not None or channel is None:
            return Refused(code=refusal or Refusal.UNKNOWN_TICKET, peer=referral.sender, ticket=referral.ticket)
        del self._channels[channel.ticket]
        state.channels.remove(channel)
        if channel.referrals < self.config.referrals_max:
            for hop in referral.suggestions:
                opened = self._open(hop, channel.referrals + 1, channel.first) if 0 < hop < RING else None
                if isinstance(opened, int):
                    return Redirected(opened, hop)
        return Refused(code=Refusal.NO_VIABLE_SUGGESTIONS, peer=referral.sender, ticket=referral.ticket)

    def end_collection(self) -> None:
        """The least time to collect is over."""
        self.state.collected = True

    def complete(self, result: Outcome) -> None:
        """It has come to an end; it takes nothing any more."""
        self.state.result = result

    @property
    def elected(self) -> int | None:
        """The winner of a complete election, if it has one."""
        return self.state.result.winner if isinstance(self.state.result, Single) else None
