"""When elections are due and attempts begin: functions of the head and of the block that accepted the serving group (E01 to E03, E22)."""

from messages.consensus_manager import Attempt
from subsystems.consensus_manager.parameters import Parameters

__all__ = [
    "acceptable_until",
    "asked_back",
    "attempt_at",
    "attempts_alive",
    "attempts_before",
    "attempts_followed",
    "beginning_at",
    "begins",
    "due_height",
    "number_of",
]


def due_height(epoch_start: int, parameters: Parameters) -> int:
    """H."""
    return epoch_start + parameters.interval


def begins(attempt: Attempt) -> int:
    """The height of the block that begins the attempt; its hash is the seed."""
    return attempt.due + attempt.delay


def attempt_at(head: int, epoch_start: int, parameters: Parameters) -> Attempt | None:
    """The youngest attempt at this head, begun with it or before; None: no election is due. D is counted from the head (R5)."""
    due = due_height(epoch_start, parameters)
    if head < due:
        return None
    timeout = parameters.election_timeout
    return Attempt(epoch_start, due, (head - due) // timeout * timeout, 0)


def beginning_at(number: int, epoch_start: int, parameters: Parameters) -> Attempt | None:
    """The attempt that exactly this block begins."""
    attempt = attempt_at(number, epoch_start, parameters)
    return attempt if attempt is not None and begins(attempt) == number else None


def attempts_alive(head: int, epoch_start: int, parameters: Parameters) -> list[Attempt]:
    """The attempts that are not superseded at this head, oldest first: K at most. Rounds beyond the first come from the stream."""
    youngest = attempt_at(head, epoch_start, parameters)
    if youngest is None:
        return []
    timeout = parameters.election_timeout
    oldest = max(0, youngest.delay - (parameters.attempts_alive - 1) * timeout)
    return [Attempt(epoch_start, youngest.due, delay, 0) for delay in range(oldest, youngest.delay + 1, timeout)]


def attempts_before(attempt: Attempt, parameters: Parameters) -> list[Attempt]:
    """The attempts at the same election that a later one tells of (`absent`): the earlier rounds, and the K - 1 attempts before it.

    Of those their first round, as that is the one that needs no stall to be known of.
    """
    timeout = parameters.election_timeout
    oldest = max(0, attempt.delay - (parameters.attempts_alive - 1) * timeout)
    first = [Attempt(attempt.epoch_start, attempt.due, delay, 0) for delay in range(oldest, attempt.delay, timeout)]
    return first + [Attempt(attempt.epoch_start, attempt.due, attempt.delay, round) for round in range(attempt.round)]


def attempts_followed(head: int, epoch_start: int, parameters: Parameters) -> list[Attempt]:
    """The attempts that are alive at this head, and those that they tell of; oldest first."""
    alive = attempts_alive(head, epoch_start, parameters)
    return [*attempts_before(alive[0], parameters), *alive] if alive else []


def acceptable_until(attempt: Attempt, parameters: Parameters) -> int:
    """The last height at which a block may accept the attempt's group (E10, E11)."""
    return begins(attempt) + parameters.election_timeout * parameters.attempts_alive


def asked_back(parameters: Parameters) -> int:
    """How many blocks before its own height a chain is asked for at most: where the attempts begin that are alive, and those they tell of.

    Of K attempts alive the oldest began less than K timeouts ago, and it tells of those in the K - 1 timeouts before.
    """
    return 2 * parameters.attempts_alive * parameters.election_timeout


def number_of(attempt: Attempt, parameters: Parameters) -> int:
    """How many attempts at this election were before it, later rounds counted."""
    return attempt.delay // parameters.election_timeout + attempt.round
