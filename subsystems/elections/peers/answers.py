"""Queries about a node's part in peer elections, from its rows alone."""

from collections.abc import Mapping
from itertools import islice

from messages.message import Message
from messages.peer_queries import (
    EndedElection,
    KnownPeer,
    PeerCount,
    PeerHistory,
    PeerHistoryReport,
    PeerMeasures,
    Peers,
    PeersReport,
    RunningElection,
)
from overseer.tables import View
from subsystems.elections.peers.config import PeerMode, PeersConfig
from subsystems.elections.peers.local import Running
from subsystems.elections.peers.measures import Measures
from subsystems.elections.peers.participant import new_state, resumed
from subsystems.elections.peers.roster import Peer, Roster
from subsystems.elections.peers.rows import HISTORY, MEASURES, loaded
from subsystems.elections.peers.tokens import TableTokens, holds_any

__all__ = ["answer"]


def answer(view: View, query: Message, self_id: int, config: PeersConfig, names: Mapping[int, str]) -> Message:
    """`names`: of the network's nodes, by their ids as peers."""
    match query:
        case Peers():
            return _report(view, self_id, config, names)
        case PeerHistory():
            return _history(view, query)
        case _:
            raise TypeError(f"{query.spec.key} is no query about peers")


def _report(view: View, self_id: int, config: PeersConfig, names: Mapping[int, str]) -> PeersReport:
    state = resumed(loaded(view) or new_state(self_id, config), config)
    roster = Roster(state.peers, self_id, config)
    return PeersReport(
        self_id=self_id,
        mode=config.mode,
        tokens=holds_any(TableTokens(view)),
        held=state.held,
        threshold=state.adaptation.threshold,
        interval_ms=state.adaptation.interval_ms,
        next_ms=0 if config.mode is PeerMode.OFF else state.next_start_ms,
        known=len(state.peers),
        list_max=config.list_max,
        peers=[_known(peer, names) for peer in roster.listed],
        coverage=roster.coverage(),
        running=[_running(each) for each in state.elections],
        alert=state.splits.raised,
        measures=_measures(view.get(MEASURES, (0,)) or Measures()),
    )


def _known(peer: Peer, names: Mapping[int, str]) -> KnownPeer:
    return KnownPeer(
        id=peer.id,
        node=names.get(peer.id, ""),
        state=peer.state,
        elected_ms=peer.elected_ms,
        last_election_ms=peer.last_election_ms,
        verified_ms=peer.verified_ms,
        wins=peer.wins,
        challenge_token=peer.challenge_token,
        reputation=peer.reputation,
    )


def _running(running: Running) -> RunningElection:
    channels = running.election.channels
    responses = sum(channel.response is not None for channel in channels)
    return RunningElection(
        token=running.election.token,
        purpose=running.purpose,
        started_ms=running.started_ms,
        channels=len(channels),
        responses=responses,
        split=running.split_seen,
    )


def _measures(counted: Measures) -> PeerMeasures:
    return PeerMeasures(
        started=counted.started,
        elected=counted.elected,
        split=counted.split,
        no_consensus=counted.no_consensus,
        abandoned=counted.abandoned,
        success_percent=counted.success_percent,
        split_percent=counted.split_percent,
        channels_opened=counted.channels_opened,
        channels_referred=counted.channels_referred,
        answers_taken=counted.answers_taken,
        p50_ms=counted.time_ms(50),
        p95_ms=counted.time_ms(95),
        p99_ms=counted.time_ms(99),
        refusals=[PeerCount(code=code, count=count) for code, count in counted.refusals.items()],
    )


def _history(view: View, query: PeerHistory) -> PeerHistoryReport:
    end = None if query.before is None else (query.before,)
    rows = list(islice(view.scan(HISTORY, end=end, reverse=True), query.limit + 1))
    told = [EndedElection(number=number, outcome=outcome) for (number,), outcome in rows[: query.limit]]
    return PeerHistoryReport(elections=told, more=len(rows) > query.limit)
