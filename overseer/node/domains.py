"""What can be told of a node's domain in a few figures: disputes, the chain, consensus groups, elections, peers.

One more is one more entry in DOMAINS: its figures, and a function that asks for them. Every question is bounded: what has more pages than
PAGES_MAX is told as far as they go.
"""

import time
from collections.abc import Mapping

from messages.chain_queries import Best, Finalized, GovernanceReport, GovernanceStatus, Header
from messages.consensus_manager import Attempts, AttemptsReport, AttemptState, Epoch, EpochReport, GroupsOnDisk, GroupsReport
from messages.dispute_conclusion import Conclusions, ListConclusions
from messages.elections import Elections, ElectionSummary, ListElections
from messages.gateway_queries import GetQueue, QueueReport
from messages.message import Message
from messages.peer_queries import Peers, PeersReport
from messages.signals import BestChain, GovernanceState
from messages.votes_db import ActiveDisputes, DisputeStatus, DisputeSummaries
from overseer.node.client import Refused
from overseer.node.figures import Ask, Domain, Figure

__all__ = ["DOMAINS", "domains_of"]

# Pages that one look reads at most: 10 000 disputes, 1 000 elections.
PAGES_MAX = 10
# Queues that one look asks for at most.
QUEUES_MAX = 32


async def _disputes(ask: Ask) -> Mapping[str, float]:
    active = unconfirmed = concluded = 0
    query = ActiveDisputes()
    for _ in range(PAGES_MAX):
        page = await ask.query(query)
        assert isinstance(page, DisputeSummaries)
        for row in page.disputes:
            concluded += row.concluded_at_ms is not None
            active += row.concluded_at_ms is None
            unconfirmed += row.status is DisputeStatus.ACTIVE
        if page.next_candidate is None:
            break
        query = ActiveDisputes(after_session=page.next_session, after_candidate=page.next_candidate)
    return {"disputes_active": active, "disputes_unconfirmed": unconfirmed, "disputes_concluded_lately": concluded}


async def _conclusions(ask: Ask) -> Mapping[str, float]:
    count, oldest_ms = 0, time.time() * 1000
    query = ListConclusions()
    for _ in range(PAGES_MAX):
        page = await ask.query(query)
        assert isinstance(page, Conclusions)
        count += len(page.conclusions)
        oldest_ms = min([oldest_ms, *(each.steps[0].at_ms for each in page.conclusions if each.steps)])
        if page.next_candidate is None:
            break
        query = ListConclusions(after_session=page.next_session, after_candidate=page.next_candidate)
    age_s = max(0.0, time.time() - oldest_ms / 1000) if count else 0.0
    return {"conclusions_open": count, "oldest_conclusion_seconds": age_s}


async def _chain(ask: Ask) -> Mapping[str, float]:
    found: dict[str, float] = {}
    best, final = await _or_none(ask, Best()), await _or_none(ask, Finalized())
    if isinstance(best, Header):
        found |= {"best_block": best.number, "session": best.session}
    if isinstance(final, Header):
        found["finalized_block"] = final.number
    silent_s = await ask.silent_s(BestChain)
    if silent_s is not None:
        found["best_block_age_seconds"] = silent_s
    report = await ask.query(GovernanceStatus())
    assert isinstance(report, GovernanceReport)
    return found | {"governance_mode": report.state is GovernanceState.ENTERED, "blacklisted_blocks": report.blacklisted}


async def _groups(ask: Ask) -> Mapping[str, float]:
    found: dict[str, float] = {}
    # Refused where the node cannot tell who serves (its stream begins in the middle).
    epoch = await _or_none(ask, Epoch())
    if isinstance(epoch, EpochReport):
        held = epoch.group is not None and epoch.group.held
        found = {"epoch": epoch.epoch, "epoch_start_block": epoch.epoch_start, "election_due_block": epoch.due, "group_share_held": held}
        attempts = await _or_none(ask, Attempts())
        if isinstance(attempts, AttemptsReport):
            found["group_attempts_running"] = sum(each.state is AttemptState.RUNNING for each in attempts.attempts)
            found["group_attempts_failed"] = sum(each.state is AttemptState.FAILED for each in attempts.attempts)
    groups = await ask.query(GroupsOnDisk())
    assert isinstance(groups, GroupsReport)
    return {**found, "groups_held": len(groups.epochs)}


async def _elections(ask: Ask) -> Mapping[str, float]:
    rows: list[ElectionSummary] = []
    for _ in range(PAGES_MAX):
        page = await ask.query(ListElections(after=rows[-1].election if rows else ""))
        assert isinstance(page, Elections)
        rows += page.elections
        if not page.more or not page.elections:
            break
    queues = [row.election for row in rows if row.kind == "gateways" and not row.archived]
    items = gateways = 0
    for key in queues[:QUEUES_MAX]:
        report = await _or_none(ask, GetQueue(election=key))
        if isinstance(report, QueueReport):
            items += report.waiting
            gateways += report.gateways
    open_ = sum(row.kind == "ballots" and row.terminal_ms is None and not row.archived for row in rows)
    return {"elections_open": open_, "gateway_queues": len(queues), "gateway_items_open": items, "gateways": gateways}


async def _peers(ask: Ask) -> Mapping[str, float]:
    report = await ask.query(Peers())
    assert isinstance(report, PeersReport)
    return {
        "peers_connected": sum(peer.state == "connected" for peer in report.peers),
        "peers_pending": sum(peer.state == "pending" for peer in report.peers),
        "peers_known": report.known,
        "peer_elections_running": len(report.running),
        "peer_elections_alert": report.alert,
    }


async def _or_none(ask: Ask, query: Message) -> Message | None:
    """The reply; None when there is nothing to tell of yet. Raises BusError."""
    try:
        return await ask.query(query)
    except Refused:
        return None


DOMAINS: tuple[Domain, ...] = (
    Domain(
        title="disputes",
        subsystem="votes_db",
        figures=(
            Figure("disputes_active", "active", "Disputes that are not concluded"),
            Figure("disputes_unconfirmed", "unconfirmed", "Of those, disputes that too few validators take part in"),
            Figure("disputes_concluded_lately", "concluded lately", "Disputes concluded at most 180 s ago"),
        ),
        look=_disputes,
    ),
    Domain(
        title="conclusions",
        subsystem="dispute_conclusion",
        figures=(
            Figure("conclusions_open", "open", "Disputes whose consequences are not complete"),
            Figure("oldest_conclusion_seconds", "oldest", "Since when the oldest of them is open", "s"),
        ),
        look=_conclusions,
    ),
    Domain(
        title="chain",
        subsystem="chain_api",
        figures=(
            Figure("best_block", "best", "Height of the best block"),
            Figure("finalized_block", "final", "Height of the last final block"),
            Figure("best_block_age_seconds", "age", "Since the best chain last changed", "s"),
            Figure("session", "session", "Session of the best block"),
            Figure("governance_mode", "governance mode", "1 while it is on", "on"),
            Figure("blacklisted_blocks", "blacklisted", "Blocks on the blacklist"),
        ),
        look=_chain,
    ),
    Domain(
        title="groups",
        subsystem="consensus_manager",
        figures=(
            Figure("epoch", "epoch", "Epoch whose consensus group serves; 0: none was elected yet"),
            Figure("epoch_start_block", "since block", "Height of the block that accepted it"),
            Figure("election_due_block", "next due at", "Height at which the next group's election is due"),
            Figure("group_share_held", "own share", "1 when this node has a share of the serving group's key", "yes"),
            Figure("group_attempts_running", "attempts", "Attempts in progress at the election that is due"),
            Figure("group_attempts_failed", "failed", "Attempts at it that failed"),
            Figure("groups_held", "on disk", "Groups in which this node could serve"),
        ),
        look=_groups,
    ),
    Domain(
        title="elections",
        subsystem="elections",
        figures=(
            Figure("elections_open", "ballots open", "Ballot elections that have not come to their end"),
            Figure("gateway_queues", "queues", "Queues of gateways"),
            Figure("gateway_items_open", "requests open", "Requests that wait in them"),
            Figure("gateways", "gateways", "Gateways that take part in them"),
        ),
        look=_elections,
    ),
    Domain(
        title="peers",
        subsystem="elections",
        figures=(
            Figure("peers_connected", "connected", "Peers that were elected and accepted"),
            Figure("peers_pending", "pending", "Peers that were elected and invited"),
            Figure("peers_known", "known", "Peers that could be asked"),
            Figure("peer_elections_running", "elections", "Elections of peers in progress"),
            Figure("peer_elections_alert", "alert", "1 when too many of them were split of late", "yes"),
        ),
        look=_peers,
    ),
)


def domains_of(subsystems: tuple[str, ...], sites: tuple[str, ...] = ()) -> list[Domain]:
    """Those of a node that runs these. Elections on several sites are no peer."""
    return [domain for domain in DOMAINS if domain.subsystem in subsystems and not (sites and domain.title == "peers")]
