"""Mutants of gateway elections: one rule broken in each, by patching."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from msgspec.structs import replace
from mutants import Mutant, patched, registering

from messages.elections import SessionSeen
from messages.gateways import (
    ProofFault,
    RoundCut,
    RoundOutcome,
    StakeRedistributed,
)
from overseer.tables import Tables
from subsystems.elections import chain
from subsystems.elections.chain import SESSION
from subsystems.elections.gateways import course, decisions, evolution
from subsystems.elections.gateways.rows import ASSIGNED, GATEWAYS, WEIGHTS, account_of, ballot_of, gateway_of

__all__ = ["GATEWAY_MUTANTS"]

GATEWAY_MUTANTS: dict[str, Mutant] = {}
mutant = registering(GATEWAY_MUTANTS)


@contextmanager
def applied(kind: type, apply: Callable[[Tables, bytes, Any], None]) -> Iterator[None]:
    """Events of this kind come to the rows in another way."""
    before = evolution._APPLY[kind]
    evolution._APPLY[kind] = apply
    try:
        yield
    finally:
        evolution._APPLY[kind] = before


# ------------------------------------------------------------------------------------------------ rounds


@mutant
def the_cut_forgets_the_open_queue() -> AbstractContextManager[None]:
    """Ballots are empty."""
    cut = evolution._APPLY[RoundCut]

    def forgetful(tables: Tables, election: bytes, event: RoundCut) -> None:
        cut(tables, election, event)
        ballot = ballot_of(tables, election, event.ballot)
        tables.put(evolution.BALLOTS, (election, event.ballot), replace(ballot, last=0))

    return applied(RoundCut, forgetful)


@mutant
def the_cut_takes_what_came_after_it() -> AbstractContextManager[None]:
    """A ballot grows while it is voted on (G03)."""
    return patched(decisions, "in_ballot", lambda item, number, ballot: item.state.value == "waiting")


@mutant
def weights_are_added_up() -> AbstractContextManager[None]:
    """A vote does not replace the one before."""
    redistributed = evolution._APPLY[StakeRedistributed]

    def adding(tables: Tables, election: bytes, event: StakeRedistributed) -> None:
        number = gateway_of(tables, election, event.gateway).number
        weight = (election, event.ballot, evolution._item(tables, election, event.item).arrival, number)
        before = int.from_bytes(tables.get(WEIGHTS, weight) or b"", "big")
        redistributed(tables, election, event)
        if before:
            tables.put(WEIGHTS, weight, (before + event.amount).to_bytes(8, "big"))

    return applied(StakeRedistributed, adding)


@mutant
def ties_by_order_of_arrival() -> AbstractContextManager[None]:
    """Who was known first wins."""
    return patched(course, "ranked", lambda standings, *, close, item: sorted(standings, key=lambda each: -each.weight))


@mutant
def ties_by_the_cut_block() -> AbstractContextManager[None]:
    """What decides ties is known while votes are taken."""
    results = course._results

    def early(draft: Any, number: int, ballot: Any) -> Any:
        def ranked(standings: Any, *, close: bytes, item: bytes) -> Any:
            return original(standings, close=ballot.cut.hash, item=item)

        with patched(course, "ranked", ranked):
            return results(draft, number, ballot)

    original = course.ranked
    return patched(course, "_results", early)


@mutant
def votes_in_quiet_blocks() -> AbstractContextManager[None]:
    """The window of votes lasts until the close (G26)."""
    return patched(decisions, "votes_taken", lambda rules, round, height: True)


@mutant
def expired_without_a_refund() -> AbstractContextManager[None]:
    result = course._result

    def greedy(request: bytes, item: Any, ranking: Any, rules: Any) -> Any:
        found = result(request, item, ranking, rules)
        return replace(found, account=None, refund=0) if found.outcome is RoundOutcome.EXPIRED else found

    return patched(course, "_result", greedy)


@mutant
def carried_for_ever() -> AbstractContextManager[None]:
    """Nothing expires."""
    result = course._result
    return patched(course, "_result", lambda request, item, ranking, rules: result(request, replace(item, carries=0), ranking, rules))


# ------------------------------------------------------------------------------------------------ gateways and assignments


@mutant
def stake_is_not_released() -> AbstractContextManager[None]:
    """What an assignment held stays held (G18)."""
    withdrawn = evolution._withdrawn

    def holding(tables: Tables, election: bytes, item: Any, *, failed: bool = False) -> Any:
        rows = [(account_of(tables, election, h.gateway), h.held) for h in item.holders]
        found = withdrawn(tables, election, item, failed=failed)
        for account, held in rows:
            gateway = gateway_of(tables, election, account)
            tables.put(GATEWAYS, (election, account), replace(gateway, held=gateway.held + held))
        return found

    return patched(evolution, "_withdrawn", holding)


@mutant
def unbonded_during_the_vote() -> AbstractContextManager[None]:
    """What a ballot may still claim leaves (G24)."""
    free = evolution.free_stake
    return patched(evolution, "free_stake", lambda *given: (*free(*given)[:2], 0))


@mutant
def alternates_have_no_turn() -> AbstractContextManager[None]:
    """After a claim ran out the request is open at once."""
    expired = course._expired

    def hasty(draft: Any, height: int) -> Any:
        event = expired(draft, height)
        return replace(event, claims=[replace(claim, promoted=None) for claim in event.claims])

    return patched(course, "_expired", hasty)


@mutant
def any_signature_proves() -> AbstractContextManager[None]:
    fault = decisions._fault

    def lax(*given: Any) -> Any:
        found = fault(*given)
        return None if found is ProofFault.SIGNATURE else found

    return patched(decisions, "_fault", lax)


# ------------------------------------------------------------------------------------------------ what the chain does


@mutant
def a_revoked_round_keeps_its_assignments() -> AbstractContextManager[None]:
    """Its requests do not return (G22)."""
    returned = course._returned
    return patched(course, "_returned", lambda draft, number: replace(returned(draft, number), returned=[]))


@mutant
def executed_without_a_flag() -> AbstractContextManager[None]:
    """What a revoked round had executed looks as if it stood (G23)."""
    returned = course._returned
    return patched(course, "_returned", lambda draft, number: replace(returned(draft, number), executed=[]))


@mutant
def nothing_is_revoked() -> AbstractContextManager[None]:
    """A round is closed and executed whatever becomes of its blocks."""
    return patched(course, "_stands", lambda known, ballot: True)


@mutant
def the_close_block_may_go() -> AbstractContextManager[None]:
    """Only the cut block is looked at."""
    return patched(course, "_stands", lambda known, ballot: known.stands(ballot.cut))


@mutant
def a_round_runs_again_under_its_identity() -> AbstractContextManager[None]:
    """A block that comes back is cut at once more."""
    return patched(course, "ROUNDS", ASSIGNED)


@mutant
def session_changes_are_ignored() -> AbstractContextManager[None]:
    """The first session's validators stay those of the session."""
    apply = chain.apply

    def deaf(tables: Tables, event: Any) -> None:
        if not isinstance(event, SessionSeen) or next(tables.scan(SESSION), None) is None:
            apply(tables, event)

    return patched(chain, "apply", deaf)


@mutant
def phases_go_on_in_governance_mode() -> AbstractContextManager[None]:
    return patched(course, "governed", lambda view: False)


@mutant
def a_reorganisation_is_not_heard() -> AbstractContextManager[None]:
    """Blocks that leave the best chain stay in the elections' idea of it, until others of their height come."""
    seen = chain.seen

    def deaf(view: Any, signal: Any, context: Any, **rest: Any) -> Any:
        return () if getattr(signal, "reverted", ()) else seen(view, signal, context, **rest)

    return patched(chain, "seen", deaf)
