"""One election as it must be: channels, answers, whom they block, and what they come to, found by trying all sets of responders."""

from collections.abc import Callable, Iterator
from itertools import combinations

import msgspec

from messages.peers import PeerAnswer, PeerReferral
from overseer.simulation.peer_nodes.proofs import agreement, apart
from subsystems.elections.peers.config import ElectionConfig

__all__ = ["Channel", "Election", "Outcome"]


class Channel(msgspec.Struct, kw_only=True):
    """`came`: the place of its answer among all; a blocked one has none."""

    hop: int
    referrals: int
    blocked: bool = False
    answer: PeerAnswer | None = None
    came: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The largest groups of responders that all agree, those that agree most, and of how many responders; none of less than two."""

    groups: list[tuple[int, ...]]
    responders: int
    is_majority: bool


class Election(msgspec.Struct, kw_only=True):
    """`void_moved`: blocks were blacklisted or pardoned while it ran, so that what it comes to may be looked at late."""

    token: int
    me: int
    started_ms: int
    threshold: int
    rules: ElectionConfig
    channels: dict[int, Channel] = msgspec.field(default_factory=dict[int, Channel])
    asked: set[int] = msgspec.field(default_factory=set[int])
    blocked: set[int] = msgspec.field(default_factory=set[int])
    arrivals: int = 0
    split: bool = False
    void_moved: bool = False

    def responses(self) -> dict[int, PeerAnswer]:
        """By responder, in the order in which they came; one of each, none of who was caught."""
        came = sorted((c for c in self.channels.values() if c.answer is not None), key=lambda c: c.came)
        found: dict[int, PeerAnswer] = {}
        for channel in came:
            if channel.answer is not None and channel.answer.responder not in self.blocked:
                found.setdefault(channel.answer.responder, channel.answer)
        return found

    def outcome(self, void: set[int]) -> Outcome:
        valid = {peer: answer for peer, answer in self.responses().items() if answer.answer.block not in void}
        shared = {(a, b): agreement(valid[a], valid[b], void) for a, b in combinations(sorted(valid), 2)}
        for size in range(len(valid), 1, -1):
            groups = [
                each for each in combinations(sorted(valid), size) if all(shared[pair] >= self.threshold for pair in combinations(each, 2))
            ]
            if groups:
                weights = [sum(shared[pair] for pair in combinations(each, 2)) for each in groups]
                best = [each for each, weight in zip(groups, weights, strict=True) if weight == max(weights)]
                is_majority = size * 100 >= self.rules.majority_percent * len(valid) and size >= self.rules.min_cluster_size
                return Outcome(groups=best, responders=len(valid), is_majority=is_majority)
        return Outcome(groups=[], responders=len(valid), is_majority=False)

    def nearest(self, peers: tuple[int, ...]) -> int:
        return min(peers, key=lambda peer: (apart(peer, self.token), peer))

    # ------------------------------------------------------------------------------------------------ what comes

    def judge(self, answer: PeerAnswer, is_sealed: bool, flaw: Callable[[], str]) -> tuple[str, str]:
        """What becomes of an answer under one of its tickets: "taken" or the refusal, and for what its responder is blocked or ""."""
        channel = self.channels[answer.ticket]
        if answer.answer.id != self.token:
            return "wrong_token", ""
        if answer.responder in self.blocked:
            return "blocked_peer", ""
        if not is_sealed or answer.responder == self.me or answer.requester != self.me:
            return "signature_verification_failed", ""
        found = flaw()
        if found:
            self.blocked.add(answer.responder)
            return "signature_verification_failed", found
        if channel.blocked:
            return "channel_blocked", ""
        if channel.answer is not None:
            channel.blocked, channel.answer = True, None
            self.blocked.add(answer.responder)
            return "duplicate_response", "duplicate"
        self.arrivals += 1
        channel.answer, channel.came = answer, self.arrivals
        return "taken", ""

    def refer(self, referral: PeerReferral) -> tuple[str, int]:
        """What becomes of a referral under one of its tickets: the refusal, or "redirected" with whom is asked instead."""
        channel = self.channels[referral.ticket]
        if referral.token != self.token:
            return "wrong_token", 0
        if channel.blocked:
            return "channel_blocked", 0
        if channel.hop != referral.sender:
            return "not_the_hop_asked", 0
        if channel.answer is not None:
            return "channel_not_pending", 0
        del self.channels[referral.ticket]
        if channel.referrals < self.rules.referrals_max:
            for hop in self._viable(referral):
                return "redirected", hop
        return "no_viable_suggestions", 0

    def _viable(self, referral: PeerReferral) -> Iterator[int]:
        takes_part = self.asked | {c.answer.responder for c in self.channels.values() if c.answer is not None}
        for hop in referral.suggestions:
            if hop not in (0, self.me) and hop not in takes_part and len(self.channels) < self.rules.max_channels:
                yield hop
