"""What a node does when it starts, or when its head changes: from its disk and its head alone (R1 to R7).

The same rule answers for a cold start, a restore and the ordinary course: so there is no path that only a crash takes.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from messages.consensus_manager import Attempt
from subsystems.consensus_manager.handover import Serving, next_round
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.schedule import acceptable_until, attempts_alive, attempts_followed

__all__ = ["Disk", "Head", "Held", "Plan", "plan"]


class Head(Struct, frozen=True, kw_only=True):
    """The best block. `target`: the height that the feed catches up to; below it, what happens now was long ago for the others."""

    number: int
    round: int = 0
    target: int = 0
    governance: bool = False

    @property
    def is_behind(self) -> bool:
        return self.number < self.target


class Held(Struct, frozen=True, kw_only=True):
    """A session on disk in which this node is a member. `share`: it has its share of the key; `formed`: the DKG gave a key."""

    session: bytes
    attempt: Attempt
    formed: bool = False
    share: bool = False


class Disk(Struct, frozen=True, kw_only=True):
    """`signing`: this node's identity."""

    signing: bytes
    held: tuple[Held, ...] = ()


class Plan(Struct, frozen=True, kw_only=True):
    """`serve`: this node signs for the serving group, from this round on. `aside`: it is a member without a share: it keeps following.

    `recover`: of the serving group's session nothing is on the disk: its share may still come out of the stream.

    `finish`: sessions to go on with from the disk; `follow`: attempts that are not on the disk, to be followed, and joined if they live
    and this node is chosen; `stop`: sessions in which nothing is said any more. `watch`: say so when no block comes for `stall_ms`.
    """

    serve: int | None = None
    aside: bool = False
    recover: bool = False
    finish: tuple[bytes, ...] = ()
    follow: tuple[Attempt, ...] = ()
    stop: tuple[bytes, ...] = ()
    watch: bool = False


def plan(
    head: Head, now: Serving, disk: Disk, parameters: Parameters, is_session: Callable[[bytes, Attempt], bool] = lambda _s, _a: True
) -> Plan:
    """What there is to do. `is_session`: whether a session on disk is of this chain's attempt, and not of another fork's."""
    group = now.group
    member = group is not None and any(m.identity.signing == disk.signing for m in group.members)
    of_group = [held for held in disk.held if group is not None and held.session == group.session]
    shared = any(held.share for held in of_group)
    serve = next_round(head.round) if member and shared and not head.is_behind else None
    if head.is_behind or head.governance:
        # Behind: only what matters at the final height is begun (R2). Governance mode: no election starts, running ones stop.
        stop = tuple(held.session for held in disk.held if head.governance and held not in of_group)
        return Plan(serve=serve, aside=member and not shared, stop=stop)
    alive = attempts_alive(head.number, now.epoch_start, parameters)
    finish = [held for held in disk.held if _goes_on(held, of_group, alive, head, parameters) and is_session(held.session, held.attempt)]
    known = [held.attempt for held in disk.held if is_session(held.session, held.attempt)]
    return Plan(
        serve=serve,
        aside=member and not shared and not any(held.formed for held in of_group),
        recover=member and not of_group,
        finish=tuple(held.session for held in finish),
        follow=tuple(a for a in attempts_followed(head.number, now.epoch_start, parameters) if a not in known),
        stop=tuple(held.session for held in disk.held if held not in finish and held not in of_group),
        watch=bool(alive),
    )


def _goes_on(held: Held, of_group: Sequence[Held], alive: Sequence[Attempt], head: Head, parameters: Parameters) -> bool:
    """The session of the serving group until its share is made (R4), and the attempts at the election that is due (R5, R6).

    A failed one too: nothing is said in it, but without blocks its next round comes out of it.
    """
    if held in of_group:
        return held.formed and not held.share
    first = Attempt(held.attempt.epoch_start, held.attempt.due, held.attempt.delay, 0)
    return first in alive or _is_acceptable(held, alive, head, parameters)


def _is_acceptable(held: Held, alive: Sequence[Attempt], head: Head, parameters: Parameters) -> bool:
    """A key that is formed is worth waiting for as long as a block may accept it."""
    same = any((a.epoch_start, a.due) == (held.attempt.epoch_start, held.attempt.due) for a in alive)
    return same and held.formed and head.number < acceptable_until(held.attempt, parameters)
