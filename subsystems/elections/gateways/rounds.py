"""Block arithmetic: which height is which phase of which round.

Round r is cut at c = origin + (r + 1)(L + 1) and closed at c + M + 1. A request belongs to the round that is cut next. Votes are taken in
the N blocks from c on. With M at most L a round is closed before, or at, the next one's cut.
"""

from messages.gateways import QueueRules

__all__ = ["close_height", "cut_height", "fault", "round_at", "votes_taken"]


def fault(rules: QueueRules) -> str:
    """What is wrong with the rules; "" for nothing (G09)."""
    if not rules.collect_blocks or not rules.vote_blocks:
        return "collect_blocks and vote_blocks must be at least 1"
    if rules.vote_blocks > rules.collect_blocks:
        return f"vote_blocks is {rules.vote_blocks}: it must not exceed collect_blocks ({rules.collect_blocks})"
    if not 1 <= rules.window_blocks <= rules.vote_blocks + 1:
        return f"window_blocks is {rules.window_blocks}: it must be from 1 to vote_blocks + 1 ({rules.vote_blocks + 1})"
    if not rules.winners_max or not rules.claim_blocks or not rules.stake_min or not rules.rounds_kept:
        return "winners_max, claim_blocks, stake_min and rounds_kept must be at least 1"
    return ""


def cut_height(rules: QueueRules, round: int) -> int:
    return rules.origin + (round + 1) * (rules.collect_blocks + 1)


def close_height(rules: QueueRules, round: int) -> int:
    return cut_height(rules, round) + rules.vote_blocks + 1


def round_at(rules: QueueRules, height: int) -> int:
    """The round to which a request belongs whose block is at `height`: the first one that is cut above it."""
    return max(0, height - rules.origin) // (rules.collect_blocks + 1)


def votes_taken(rules: QueueRules, round: int, height: int) -> bool:
    """Whether `height` is in the round's voting window (G26)."""
    return 0 <= height - cut_height(rules, round) < rules.window_blocks
