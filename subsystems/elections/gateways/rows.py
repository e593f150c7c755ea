"""The rows of a queue: its state, its ballots, its gateways, and its requests by where they are.

A request is in the ballot without any row being written for it: a waiting request that joined the queue before the ballot was cut. So a cut
costs nothing for each request.
"""

import enum
from collections.abc import Iterator

import msgspec

from messages.gateways import QueueRules, RoundOutcome, RoundPhase
from messages.polkadot import Scheme
from messages.signals import BlockRef
from overseer.tables import HASH, U32, U64, Table, View

__all__ = [
    "ACCOUNTS",
    "ASSIGNED",
    "BALLOTS",
    "GATEWAYS",
    "ITEMS",
    "QUEUES",
    "RESULTS",
    "ROUNDS",
    "STAKES",
    "TABLES",
    "UNBONDING",
    "WAITING",
    "WEIGHTS",
    "Ballot",
    "Gateway",
    "Holder",
    "Item",
    "ItemState",
    "Queue",
    "Result",
    "Snapshot",
    "account_of",
    "ballot_of",
    "free_stake",
    "gateway_of",
    "last_ballot",
    "queue_of",
    "weights_of",
]


class Queue(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The state of a queue's elections.

    `ballots`: numbers of ballots used so far. A skipped round uses one as well, so that "the ballot after those that are due" has a number.
    `standing`: the last ballot that was cut and not revoked (0: none); `current`: the ballot that is voted on or being closed (0: none);
    `revoking`: one whose requests are being returned (0: none). `next_round`: the first one that is not cut.
    `heard_ms`, `heard_at`: how far the chain was known when it last made a step due.
    """

    rules: QueueRules
    next_round: int
    heard_ms: int
    heard_at: int
    ballots: int = 0
    standing: int = 0
    current: int = 0
    revoking: int = 0
    # The first ballot whose votes and results are kept.
    oldest: int = 1
    arrivals: int = 0
    waiting: int = 0
    gateways: int = 0


class Ballot(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """`last`: no request that arrived later is in it. `reached`: requests up to there are settled, or returned, so far.

    `before`: the ballot that stood when this one was cut. `assigned`: its requests that wait for proof.
    """

    round: int
    phase: RoundPhase
    cut: BlockRef
    close: BlockRef | None = None
    last: int
    reached: int = 0
    page: int = 0
    before: int = 0
    assigned: int = 0


class Gateway(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """`held`: backs assignments. `unbonding`: leaves when it is free; `unbonded`: has left."""

    number: int
    scheme: Scheme = Scheme.SR25519
    declared: bool = False
    paused: bool = False
    in_session: bool = False
    bonded: int = 0
    held: int = 0
    unbonding: int = 0
    unbonded: int = 0
    # Assignments not proven in time.
    failures: int = 0


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """A gateway's stake when a ballot was cut, what of it is redistributed, and what of that is held by now."""

    stake: int
    used: int = 0
    held: int = 0


class ItemState(enum.StrEnum):
    """Waiting: in the open queue or the ballot."""

    WAITING = "waiting"
    ASSIGNED = "assigned"
    EXECUTED = "executed"
    EXPIRED = "expired"


class Holder(msgspec.Struct, frozen=True, array_like=True):
    """Who may prove a request, by number, and the stake that is held for it."""

    gateway: int
    held: int


class Item(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A request. `joined`: ballots whose cut was over, or due, when it came to the open queue; the next one takes it.

    `ballot`: where it was assigned; `turns`: how many of the ranking had their turn. `flagged`: its round was revoked.
    """

    arrival: int
    content: bytes
    size: int
    account: bytes
    balance: int
    round: int
    joined: int
    carries: int = 0
    state: ItemState = ItemState.WAITING
    ballot: int = 0
    turns: int = 0
    holders: tuple[Holder, ...] = ()
    deadline: int = 0
    executor: bytes | None = None
    height: int = 0
    flagged: bool = False


class Result(msgspec.Struct, frozen=True, array_like=True):
    """What a close made of a request; the ranking follows from the votes."""

    request: bytes
    outcome: RoundOutcome


# (election)
QUEUES = Table("gateway_queues", key=(HASH,), value=Queue)
# (election, ballot)
BALLOTS = Table("gateway_ballots", key=(HASH, U64), value=Ballot)
# (election, round, ballot) -> hash of the cut block: (round, cut block) is cut once
ROUNDS = Table("gateway_rounds", key=(HASH, U32, U64), value=bytes)
# (election, account)
GATEWAYS = Table("gateways", key=(HASH, HASH), value=Gateway)
# (election, gateway number) -> account
ACCOUNTS = Table("gateway_accounts", key=(HASH, U32), value=bytes)
# (election, gateway number) -> nothing: those with stake that waits to leave
UNBONDING = Table("gateway_unbonding", key=(HASH, U32), value=bytes)
# (election, ballot, gateway number)
STAKES = Table("gateway_stakes", key=(HASH, U64, U32), value=Snapshot)
# (election, ballot, arrival, gateway number) -> weight, 8 bytes
WEIGHTS = Table("gateway_weights", key=(HASH, U64, U64, U32), value=bytes)
# (election, request)
ITEMS = Table("gateway_items", key=(HASH, HASH), value=Item)
# (election, arrival) -> request
WAITING = Table("gateway_waiting", key=(HASH, U64), value=bytes)
# (election, deadline, arrival) -> request
ASSIGNED = Table("gateway_assigned", key=(HASH, U32, U64), value=bytes)
# (election, ballot, arrival)
RESULTS = Table("gateway_results", key=(HASH, U64, U64), value=Result)

TABLES = (QUEUES, BALLOTS, ROUNDS, GATEWAYS, ACCOUNTS, UNBONDING, STAKES, WEIGHTS, ITEMS, WAITING, ASSIGNED, RESULTS)


def queue_of(view: View, election: bytes) -> Queue:
    """Of a queue that was opened."""
    queue = view.get(QUEUES, (election,))
    assert queue is not None
    return queue


def ballot_of(view: View, election: bytes, number: int) -> Ballot:
    """Of a ballot that was cut."""
    ballot = view.get(BALLOTS, (election, number))
    assert ballot is not None
    return ballot


def last_ballot(view: View, election: bytes, round: int) -> int | None:
    """The number of a round's ballot: the last one, if it was cut several times."""
    found = next(view.scan_packed(ROUNDS, (election, round), reverse=True), None)
    return None if found is None else ROUNDS.unpack(found[0])[2]


def account_of(view: View, election: bytes, number: int) -> bytes:
    account = view.get(ACCOUNTS, (election, number))
    assert account is not None
    return account


def gateway_of(view: View, election: bytes, account: bytes) -> Gateway:
    """Of an account that is known."""
    gateway = view.get(GATEWAYS, (election, account))
    assert gateway is not None
    return gateway


def free_stake(view: View, election: bytes, queue: Queue, gateway: Gateway) -> tuple[int, int, int]:
    """(free, redistributed, reserved): what is neither held nor redistributed; what is redistributed in the present ballot; and what
    the ballot may still claim, which is all that was taken down when it was cut.
    """
    snapshot = view.get(STAKES, (election, queue.current, gateway.number)) if queue.current else None
    if snapshot is None:
        return gateway.bonded - gateway.held, 0, 0
    redistributed = snapshot.used - snapshot.held
    return gateway.bonded - gateway.held - redistributed, redistributed, snapshot.stake - snapshot.held


def weights_of(view: View, election: bytes, ballot: int, arrival: int) -> Iterator[tuple[int, int]]:
    """(gateway number, weight) of one request of a ballot."""
    for key, data in view.scan_packed(WEIGHTS, (election, ballot, arrival)):
        yield int.from_bytes(key[-4:], "big"), int.from_bytes(data, "big")
