"""Which group serves: derived from the accepting blocks on the best chain, never counted (E16 to E18, E25).

A group serves from the block that accepted it to the one that accepts the next. If a chain without that block becomes the best one
(a reorganisation, or the blacklist), the group before serves again, and its elections are due by its own start: nothing is undone, so it
does no harm to hear of it twice.
"""

import enum
from collections.abc import Callable, Sequence

from msgspec import Struct

from messages.consensus_manager import Attempt, Member
from subsystems.consensus_manager.judging import Verdict
from subsystems.consensus_manager.outcome import places
from subsystems.consensus_manager.selection import Penalties, penalties_after

__all__ = ["Acceptance", "Role", "Serving", "acceptance_of", "kept", "next_round", "outlived", "penalties_of", "role", "serving"]


class Acceptance(Struct, frozen=True, kw_only=True):
    """A group that a block accepted. `penalties`: as they are behind that block, by signing key."""

    block: bytes
    number: int
    epoch: int
    session: bytes
    attempt: Attempt
    key: bytes
    members: tuple[Member, ...]
    penalties: tuple[tuple[bytes, int], ...] = ()


class Serving(Struct, frozen=True, kw_only=True):
    """Epoch 0 has no group and began with the first block of the chain."""

    epoch: int = 0
    epoch_start: int = 0
    group: Acceptance | None = None


def acceptance_of(verdict: Verdict, *, block: bytes, number: int, before: Serving) -> Acceptance:
    """What an accepted transaction of a block brings about: the next epoch, which begins with that block (E16).

    Raises ValueError: the verdict is no acceptance.
    """
    transaction, terms = verdict.transaction, verdict.terms
    if verdict.error is not None or transaction is None or terms is None:
        raise ValueError("nothing was accepted")
    signing = [member.identity.signing for member in terms.members]
    qualified = [signing[place] for place in places(transaction.qualified, terms.size) or ()]
    failed = [*signing, *(terms.validators[validator] for validator in transaction.absent)]
    held = dict(before.group.penalties) if before.group is not None else {}
    after = penalties_after(held, qualified=qualified, failed=failed)
    return Acceptance(
        block=block,
        number=number,
        epoch=before.epoch + 1,
        session=terms.session,
        attempt=transaction.attempt,
        key=transaction.key,
        members=terms.members,
        penalties=tuple(sorted(after.items())),
    )


def serving(acceptances: Sequence[Acceptance], is_on_chain: Callable[[bytes], bool]) -> Serving:
    """The group whose accepting block is the latest on a chain. Acceptances of other chains may be among them, or one twice."""
    for group in sorted(acceptances, key=lambda acceptance: (acceptance.number, acceptance.block), reverse=True):
        if is_on_chain(group.block):
            return Serving(epoch=group.epoch, epoch_start=group.number, group=group)
    return Serving()


def penalties_of(now: Serving) -> Penalties:
    """Those that the next selection heeds."""
    return {} if now.group is None else dict(now.group.penalties)


def kept(acceptances: Sequence[Acceptance], *, final: int, is_on_chain: Callable[[bytes], bool]) -> list[Acceptance]:
    """What may still be needed: all since the last final one on the chain, that one, and the one before it.

    Finality can move back by a governance decision: hence the one before.
    """
    done = sorted((a for a in acceptances if a.number <= final and is_on_chain(a.block)), key=lambda a: a.number)
    floor = done[-2].number if len(done) > 1 else 0
    return [a for a in acceptances if a.number >= floor]


def outlived(acceptances: Sequence[Acceptance], *, below: int, is_on_chain: Callable[[bytes], bool]) -> list[Acceptance]:
    """What no chain asks for that leaves the final one at block `below` or later: the other groups accepted before.

    There one or two on the chain are kept (`kept`), of those beside it none.
    """
    needed = {a.block for a in kept(acceptances, final=below, is_on_chain=is_on_chain)}
    return [a for a in acceptances if a.number <= below and not (a.block in needed and is_on_chain(a.block))]


class Role(enum.Enum):
    """What a handover means for one node."""

    OUTSIDE = "outside"
    STARTS = "starts"
    CARRIES_ON = "carries on"
    STOPS = "stops"


def role(before: Serving, after: Serving, signing: bytes) -> Role:
    """E17, both ways: after a revocation the members of the group before carry on or start again."""
    was, is_now = _is_in(before, signing), _is_in(after, signing)
    if was and is_now:
        return Role.CARRIES_ON
    return Role.STARTS if is_now else Role.STOPS if was else Role.OUTSIDE


def _is_in(now: Serving, signing: bytes) -> bool:
    return now.group is not None and any(member.identity.signing == signing for member in now.group.members)


def next_round(round: int) -> int:
    """The round in which members go on behind a head of that round: after a handover, and after a restart (R3)."""
    return round + 1
