"""What a network's facts come to, within a time."""

from collections import Counter
from collections.abc import Sequence

from messages.peers import PeerElectionEnd, PeerElectionEnded, PeerElectionStarted, PeerEvent, PeerMoved, PeerTrafficRefused
from overseer.simulation.peers.plan import NetworkReport
from subsystems.elections.peers.measures import percentile
from subsystems.elections.peers.participant import Participant
from subsystems.elections.peers.roster import PeerState

__all__ = ["reported"]

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS


def reported(
    *,
    facts: Sequence[PeerEvent],
    nodes: Sequence[Participant],
    peers: int,
    attackers: set[int],
    victims: Sequence[Participant],
    gone: set[int],
    sent: Counter[str],
    since_ms: int,
    now_ms: int,
) -> NetworkReport:
    """`facts`: of honest peers, since then. `nodes`: those that are there. `sent`: messages by kind, since then."""
    ended = [fact for fact in facts if isinstance(fact, PeerElectionEnded)]
    elected = [fact for fact in ended if fact.end is PeerElectionEnd.ELECTED]
    times = [fact.took_ms for fact in elected]
    places = [peer for node in nodes for peer in node.peer_list]
    coverage = [count for node in nodes for count in node.roster.coverage()]
    hours = (now_ms - since_ms) / _HOUR_MS
    half = since_ms + (now_ms - since_ms) // 2
    moves = sum(_is_churn(fact, half) for fact in facts)
    eclipsed = [peer.id in attackers for node in victims for peer in node.peer_list]
    return NetworkReport(
        elections=len(ended),
        success_percent=_percent(len(elected), len(ended)),
        split_percent=_percent(sum(fact.split for fact in ended), len(ended)),
        elected_attackers_percent=_percent(sum(fact.winner in attackers for fact in elected), len(elected)),
        messages_per_election=_mean(sent["election"], sum(isinstance(fact, PeerElectionStarted) for fact in facts)),
        introductions_per_peer_hour=round(sent["introduction"] / peers / hours, 2),
        responders=_mean(sum(fact.responses for fact in ended), len(ended)),
        winners_percent=_percent(len({fact.winner for fact in elected}), peers),
        p50_ms=percentile(times, 50),
        p95_ms=percentile(times, 95),
        p99_ms=percentile(times, 99),
        connected=_mean(sum(peer.state is PeerState.CONNECTED for peer in places), len(nodes)),
        listed=_mean(len(places), len(nodes)),
        churn_percent_hour=_percent(moves * 2, max(1, len(places)), hours),
        present_percent=_percent(sum(peer.id not in gone for peer in places), len(places)),
        listed_attackers_percent=_percent(sum(peer.id in attackers for peer in places), len(places)),
        eclipsed_percent=_percent(sum(eclipsed), len(eclipsed)),
        verified_minutes=round(sum(now_ms - peer.verified_ms for peer in places) / len(places) / _MINUTE_MS, 1) if places else 0.0,
        covered_percent=_percent(sum(count > 0 for count in coverage), len(coverage)),
        refusals=dict(sorted(Counter(fact.code for fact in facts if isinstance(fact, PeerTrafficRefused)).items())),
    )


def _is_churn(fact: PeerEvent, after_ms: int) -> bool:
    """Whether a peer lost its place: who came for it is the same change."""
    return isinstance(fact, PeerMoved) and fact.at_ms >= after_ms and fact.after == PeerState.IDENTIFIED


def _mean(total: int, count: int) -> float:
    return round(total / count, 2) if count else 0.0


def _percent(part: int, whole: int, hours: float = 1.0) -> float:
    return round(100 * part / whole / hours, 2) if whole else 0.0
