"""Mutants of the subsystems: rules of disputes, of the cascade and of the chain, each broken in one place."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from msgspec.structs import replace
from mutants import mutant, patched

from messages.message import Message
from messages.votes_db import DisputeStatus
from messages.votes_db_journal import DisputeResolved
from overseer.subsystem import Decision
from subsystems.chain_api import best, blacklist, finality, imports, leaves, pool, reaction
from subsystems.chain_api.chain import Chain, Draft
from subsystems.chain_api.config import ChainConfig
from subsystems.dispute_conclusion import decisions
from subsystems.votes_db import counting, evolution, form, gossip, importing, pruning, reactions, rules, sessions
from subsystems.votes_db import subsystem as votes_subsystem

# ------------------------------------------------------------------------------------------------ votes


@mutant
def any_signature_will_do() -> AbstractContextManager[None]:
    count = importing.count_votes
    return patched(importing, "count_votes", lambda view, bundle, row, verify: count(view, bundle, row, lambda check: True))


@mutant
def threshold_too_low() -> AbstractContextManager[None]:
    """n - f - 1 votes conclude."""
    return patched(rules, "supermajority", lambda n: n - rules.byzantine_threshold(n) - 1)


@mutant
def threshold_too_high() -> AbstractContextManager[None]:
    """n - f + 1 votes are needed: what has the votes never concludes."""
    return patched(rules, "supermajority", lambda n: n - rules.byzantine_threshold(n) + 1)


@mutant
def challenged_too_late() -> AbstractContextManager[None]:
    """f + 2 invalid votes challenge."""
    return patched(importing, "byzantine_threshold", lambda n: rules.byzantine_threshold(n) + 1)


@mutant
def for_overrides_against() -> AbstractContextManager[None]:
    status_of = importing.status_of

    def other(*, valid: int, invalid: int, voters: int, validators: int) -> DisputeStatus:
        if valid and invalid and valid >= rules.supermajority(validators):
            return DisputeStatus.CONCLUDED_FOR
        return status_of(valid=valid, invalid=invalid, voters=voters, validators=validators)

    return patched(importing, "status_of", other)


@mutant
def weaker_votes_replace() -> AbstractContextManager[None]:
    """A backing vote is replaced by an approval."""
    return patched(counting, "replaces", lambda new, present: True)


@mutant
def told_of_a_verdict_twice() -> AbstractContextManager[None]:
    """`react` says every resolution two times."""
    react = reactions.react

    def twice(event: Message) -> Iterable[Message]:
        told = tuple(react(event))
        return (*told, *told) if isinstance(event, DisputeResolved) else told

    return patched(reactions, "react", twice)


@mutant
def rewarded_again() -> AbstractContextManager[None]:
    """Who was rewarded or slashed is not remembered: a late vote pays everybody anew."""
    transactions = importing._transactions

    def again(key: Any, row: Any, count: Any, status: Any, rows: Any, voters: int) -> Any:
        blank = replace(row, rewarded_for=0, rewarded_against=0, slashed_for=0, slashed_against=0)
        return transactions(key, blank, count, status, rows, sum(1 << v for v in rows))

    return patched(importing, "_transactions", again)


@mutant
def double_voters_rewarded() -> AbstractContextManager[None]:
    """Who voted for the winner too is not slashed."""
    transactions = importing._transactions

    def lenient(key: Any, row: Any, count: Any, status: Any, rows: Any, voters: int) -> Any:
        both = count.valid & count.invalid
        if status is DisputeStatus.CONCLUDED_FOR:
            count.invalid &= ~both
        else:
            count.valid &= ~both
        return transactions(key, row, count, status, rows, voters)

    return patched(importing, "_transactions", lenient)


@mutant
def spam_has_no_bound() -> AbstractContextManager[None]:
    return patched(importing, "is_potential_spam", lambda status, known: False)


@mutant
def slots_never_given_back() -> AbstractContextManager[None]:
    return patched(evolution, "_settled", lambda tables, key, row: row)


@mutant
def sessions_never_pruned() -> AbstractContextManager[None]:
    """The timer of pruning is never set."""
    change = sessions.on_session_change

    def lazy(*given: Any) -> Decision:
        decision = change(*given)
        kept = [timer for timer in decision.timers if timer.key != sessions.PRUNE_TIMER]
        return Decision(events=decision.events, timers=kept)

    return patched(sessions, "on_session_change", lazy)


@mutant
def one_session_pruned_too_many() -> AbstractContextManager[None]:
    step = votes_subsystem.prune_step

    def eager(view: Any, rows_max: int) -> Any:
        window = pruning.window
        with patched(pruning, "window", lambda v: (kept := window(v)) and kept._replace(oldest=kept.oldest + 1)):
            return step(view, rows_max)

    return patched(votes_subsystem, "prune_step", eager)


@mutant
def held_gossip_forgotten() -> AbstractContextManager[None]:
    return patched(gossip, "_held", lambda view, message, config: Decision())


@mutant
def evolve_depends_on_what_happened_before() -> AbstractContextManager[None]:
    """`evolve` counts its calls: tables are no function of the journal."""
    imported = evolution._votes_imported
    calls = [0]

    def counting_calls(tables: Any, event: Any) -> None:
        calls[0] += 1
        imported(tables, replace(event, at_ms=event.at_ms + calls[0]))

    return patched(evolution, "_votes_imported", counting_calls)


@mutant
def no_second_receipt() -> AbstractContextManager[None]:
    """A receipt that does not hash to the candidate is taken."""
    return patched(form, "_malformed_receipt", lambda receipt, claimed: None)


# ------------------------------------------------------------------------------------------------ what follows


@mutant
def one_including_block_forgotten() -> AbstractContextManager[None]:
    """Of several forks that include a candidate only the first is asked for."""
    ask = decisions._ask
    return patched(decisions, "_ask", lambda view, key, blocks, *given: ask(view, key, blocks[:1], *given))


@mutant
def later_inclusions_ignored() -> AbstractContextManager[None]:
    """A candidate found invalid may be included afterwards (D24)."""
    on_import = decisions.on_import
    return patched(decisions, "on_import", lambda *given: on_import(*given)[:1])


@mutant
def early_revert_never_lifted() -> AbstractContextManager[None]:
    return patched(decisions, "_lift", lambda *given: [])


@mutant
def no_early_revert() -> AbstractContextManager[None]:
    return patched(decisions, "_revert", lambda *given: [])


@mutant
def verdict_for_is_final() -> AbstractContextManager[None]:
    """Against does not override for (D08)."""
    on_resolution = decisions.on_resolution

    def stubborn(view: Any, message: Any, *given: Any) -> Any:
        row = decisions.conclusion_row(view, (message.session, message.candidate))
        return [] if row.valid else on_resolution(view, message, *given)

    return patched(decisions, "on_resolution", stubborn)


# ------------------------------------------------------------------------------------------------ the chain


@mutant
def one_descendant_forgotten() -> AbstractContextManager[None]:
    """The last block of each step of a cascade is not marked."""
    run = blacklist._Marker.run

    def short(self: Any) -> list[bytes]:
        keys = run(self)
        return keys[:-1] if len(keys) > 1 else keys

    return patched(blacklist._Marker, "run", short)


@mutant
def children_of_the_blacklisted_are_clean() -> AbstractContextManager[None]:
    """The cascade does not reach the future (C07)."""

    def record(draft: Any, block: Any, parent: Any) -> None:
        with patched(Chain, "convicted_by", lambda self, key: None):
            original(draft, block, parent)

    original = imports._record
    return patched(imports, "_record", record)


@mutant
def governance_never_entered() -> AbstractContextManager[None]:
    return patched(blacklist, "governance_for", lambda chain, bad: None)


@mutant
def governance_for_blocks_that_are_not_final() -> AbstractContextManager[None]:
    return patched(blacklist, "is_ancestor", lambda view, upper, lower: True)


@mutant
def finality_in_governance_mode() -> AbstractContextManager[None]:
    finalize = finality.finalize

    def lax(draft: Any, message: Any) -> Any:
        state = draft.state
        if not state.governance:
            return finalize(draft, message)
        draft._state = replace(state, governance=False)
        return finalize(draft, message)

    return patched(finality, "finalize", lax)


@mutant
def any_block_may_be_final() -> AbstractContextManager[None]:
    """Finality moves to another branch."""
    finalize = finality.finalize

    def lax(draft: Any, message: Any) -> Any:
        ancestor = finality.is_ancestor
        first: list[bool] = []

        def lying(view: Any, upper: bytes, lower: bytes) -> bool:
            first.append(True)
            return True if len(first) == 2 else ancestor(view, upper, lower)

        with patched(finality, "is_ancestor", lying):
            return finalize(draft, message)

    return patched(finality, "finalize", lax)


@mutant
def reverted_blocks_are_built_on() -> AbstractContextManager[None]:
    return patched(Chain, "lowest_reverted", lambda self, key: None)


@mutant
def the_best_is_not_looked_for() -> AbstractContextManager[None]:
    """After a loss the best stays at the nearest ancestor."""
    return patched(best, "search", lambda draft: setattr(draft, "search", None))


@mutant
def leaves_not_put_off() -> AbstractContextManager[None]:
    """Blacklisted and overtaken leaves stay active."""
    move = leaves.move
    return patched(leaves, "move", lambda draft, activated=(), covered=(), put_off=(): move(draft, activated=activated, covered=covered))


@mutant
def transactions_pooled_again() -> AbstractContextManager[None]:
    """Who submits one twice has it executed twice."""

    def submit(draft: Any, message: Any) -> Any:
        draft.record(pool.TransactionsSubmitted(pooled=list(message.transactions), executed=[]))
        return draft.decision()

    return patched(pool, "submit", submit)


@mutant
def resume_without_the_authority() -> AbstractContextManager[None]:
    refusal = finality._refusal

    def lax(draft: Any, message: Any) -> str | None:
        reason = refusal(draft, message)
        return None if reason == "bad_signature" else reason

    return patched(finality, "_refusal", lax)


@mutant
def a_signal_is_left_out() -> AbstractContextManager[None]:
    """`best_chain` is not told when nothing was reverted."""
    told = reaction._best_chain
    return patched(reaction, "_best_chain", lambda event: told(event) if event.reverted else told(event)[1:])


@mutant
@contextmanager
def orphans_never_adopted() -> Iterator[None]:
    with patched(imports, "adopt", lambda draft: None), patched(Draft, "orphans_ready", False):
        yield


@mutant
def bounds_of_the_orphan_pool_ignored() -> AbstractContextManager[None]:
    """A block that waits is given up for the next one."""
    hold = imports._hold

    def small(draft: Any, message: Any) -> Any:
        before: ChainConfig = draft.config
        draft.config = replace(before, orphans_max=1)
        try:
            return hold(draft, message)
        finally:
            draft.config = before

    return patched(imports, "_hold", small)
