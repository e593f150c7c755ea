"""What goes wrong in one run, drawn from its seed before it begins: a list of faults, each with its moment and its target.

A run is determined by its `Case`. A smaller case is the same one with fewer faults or inputs kept: so every shrunk failure is
a command line (`overseer simulate --seed N --keep-faults 3,17 ...`).
"""

import enum
from collections.abc import Sequence
from random import Random

import msgspec

from overseer.memory.store import CommitStep
from overseer.runner.observer import Step
from overseer.simulation.scenario import Network

__all__ = ["LOSING", "Case", "Fault", "FaultKind", "draw_faults", "draw_network"]


class FaultKind(enum.StrEnum):
    """Every way in which things go wrong. What each `amount` means is said where it is done (overseer/simulation/faults.py)."""

    # Processes.
    KILL = "kill"
    KILL_AT_STEP = "kill_at_step"
    KILL_IN_COMMIT = "kill_in_commit"
    KILL_SEVERAL = "kill_several"
    KILL_NODE = "kill_node"
    STORE_ERROR = "store_error"
    # The bus.
    BUS_STOPPED = "bus_stopped"
    ACKS_ROLLED_BACK = "acks_rolled_back"
    ACKS_LOST = "acks_lost"
    TORN_PULL = "torn_pull"
    REDELIVERED = "redelivered"
    APPEND_UNANSWERED = "append_unanswered"
    APPEND_LOST = "append_lost"
    REQUEST_DOUBLED = "request_doubled"
    DISK_FULL_IN_SILENCE = "disk_full_in_silence"
    STREAM_FULL = "stream_full"
    TRIMMED = "trimmed"
    # The network.
    CUT_FROM_BUS = "cut_from_bus"
    CUT_FROM_NETWORK = "cut_from_network"
    SLOW = "slow"
    DELAYED = "delayed"
    # Time.
    CLOCK_JUMP = "clock_jump"
    # What takes something for good.
    STREAM_TRUNCATED = "stream_truncated"
    STREAM_REPLACED = "stream_replaced"
    STORE_DELETED = "store_deleted"
    STORE_RESTORED = "store_restored"
    COMMITS_LOST = "commits_lost"


# Faults that take what was acknowledged: what the repair semantics promise then is less (docs/reliability.md).
LOSING = frozenset(
    {
        FaultKind.STREAM_TRUNCATED,
        FaultKind.STREAM_REPLACED,
        FaultKind.STORE_DELETED,
        FaultKind.STORE_RESTORED,
        FaultKind.COMMITS_LOST,
    }
)


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that goes wrong at `at_ms`. `target`: a subsystem, or empty for the node's; "net" as node is the network's bus."""

    kind: FaultKind
    at_ms: int
    node: str
    target: str = ""
    for_ms: int = 0
    amount: int = 0
    step: str = ""

    def __str__(self) -> str:
        where = f"{self.node}.{self.target}" if self.target else self.node
        rest = [f"for {self.for_ms} ms"] if self.for_ms else []
        rest += [f"amount {self.amount}"] if self.amount else []
        rest += [self.step] if self.step else []
        return " ".join([f"{self.kind.value} of {where}", *rest])


class Case(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run. `keep_faults` and `keep_inputs`: places in the plan and in the traffic that are kept; None keeps all."""

    seed: int
    scenario: str
    nodes: int
    hours: float
    faults: int
    keep_faults: tuple[int, ...] | None = None
    keep_inputs: tuple[int, ...] | None = None

    @property
    def network(self) -> Network:
        return Network(seed=self.seed, nodes=tuple(f"n{i + 1}" for i in range(self.nodes)), hours=self.hours)


# How often each kind is drawn. Everything else together is as frequent as kills, which are what matters most.
_WEIGHTS: dict[FaultKind, int] = {
    FaultKind.KILL: 8,
    FaultKind.KILL_AT_STEP: 12,
    FaultKind.KILL_IN_COMMIT: 8,
    FaultKind.KILL_SEVERAL: 2,
    FaultKind.KILL_NODE: 1,
    FaultKind.STORE_ERROR: 3,
    FaultKind.BUS_STOPPED: 3,
    FaultKind.ACKS_ROLLED_BACK: 4,
    FaultKind.ACKS_LOST: 4,
    FaultKind.TORN_PULL: 8,
    FaultKind.REDELIVERED: 6,
    FaultKind.APPEND_UNANSWERED: 8,
    FaultKind.APPEND_LOST: 6,
    FaultKind.REQUEST_DOUBLED: 6,
    FaultKind.DISK_FULL_IN_SILENCE: 2,
    FaultKind.STREAM_FULL: 2,
    FaultKind.TRIMMED: 3,
    FaultKind.CUT_FROM_BUS: 4,
    FaultKind.CUT_FROM_NETWORK: 2,
    FaultKind.SLOW: 3,
    FaultKind.DELAYED: 3,
    FaultKind.CLOCK_JUMP: 3,
}
_NETWORK_ONLY = frozenset({FaultKind.CUT_FROM_NETWORK})
# What takes messages out of a stream, or keeps them out, on purpose: left out beside what takes something for good.
_TRIMMING = frozenset({FaultKind.TRIMMED, FaultKind.STREAM_FULL})
_OF_PROCESSES = frozenset(
    {
        FaultKind.KILL,
        FaultKind.KILL_AT_STEP,
        FaultKind.KILL_IN_COMMIT,
        FaultKind.STORE_ERROR,
        FaultKind.ACKS_ROLLED_BACK,
        FaultKind.ACKS_LOST,
        FaultKind.TORN_PULL,
        FaultKind.REDELIVERED,
        FaultKind.APPEND_UNANSWERED,
        FaultKind.APPEND_LOST,
        FaultKind.REQUEST_DOUBLED,
        FaultKind.CUT_FROM_BUS,
        FaultKind.SLOW,
        FaultKind.STORE_DELETED,
        FaultKind.STORE_RESTORED,
        FaultKind.COMMITS_LOST,
    }
)
# Of a network's own bus, beside its nodes'.
_OF_THE_NETWORK = frozenset({FaultKind.BUS_STOPPED, FaultKind.STREAM_FULL, FaultKind.TRIMMED, FaultKind.DISK_FULL_IN_SILENCE})

# A quarter of the seeds takes something for good: once, and where nothing was trimmed. What is gone from two places is gone, and
# it is said; of what is left then nothing is promised (docs/reliability.md).
_LOSING_SHARE = 0.25
_NODES = (1,) * 12 + (2, 2, 3, 4)


def draw_network(seed: int) -> int:
    """How many nodes the network of this seed has: mostly one, for that is where most can go wrong in a second of computing."""
    return Random(f"{seed} nodes").choice(_NODES)


def draw_faults(case: Case, subsystems: Sequence[str], *, networked: bool) -> list[Fault]:
    """The plan, in order of time: `case.faults` of them, and in some seeds one that takes something for good."""
    random = Random(f"{case.seed} faults")
    nodes = case.network.nodes
    losing = random.random() < _LOSING_SHARE
    left_out = (_NETWORK_ONLY if not networked else frozenset[FaultKind]()) | (_TRIMMING if losing else frozenset[FaultKind]())
    kinds = [kind for kind in _WEIGHTS if kind not in left_out]
    chosen = random.choices(kinds, [_WEIGHTS[kind] for kind in kinds], k=case.faults)
    if losing:
        chosen.append(random.choice(sorted(LOSING)))
    span_ms = int(case.hours * 3_600_000)
    return sorted((_draw(random, kind, nodes, subsystems, networked, span_ms) for kind in chosen), key=lambda fault: fault.at_ms)


def _draw(random: Random, kind: FaultKind, nodes: Sequence[str], subsystems: Sequence[str], networked: bool, span_ms: int) -> Fault:
    at_ms = random.randrange(span_ms)
    node = "net" if networked and kind in _OF_THE_NETWORK and random.random() < 0.2 else random.choice(nodes)
    target = random.choice(subsystems) if kind in _OF_PROCESSES else ""
    # Mostly short; sometimes as long as people need to mend something.
    for_ms = random.choice((200, 1_000, 1_000, 3_000, 3_000, 10_000, 30_000))
    amount = random.choice((0, 0, 1, 1, 2, 3, 5, 8, 20))
    step = ""
    match kind:
        case FaultKind.KILL_AT_STEP:
            step = random.choice(list(Step)).value
        case FaultKind.KILL_IN_COMMIT | FaultKind.STORE_ERROR:
            step = random.choice(list(CommitStep)).value
        case FaultKind.CLOCK_JUMP:
            amount = random.choice((-600_000, -60_000, -2_000, -100, 100, 2_000, 60_000, 600_000)) + random.randrange(-50, 50)
        case FaultKind.STORE_RESTORED:
            # How long before the fault the copy was made.
            amount = random.randrange(1_000, max(2_000, span_ms // 2))
        case FaultKind.COMMITS_LOST:
            amount = random.randint(1, 8)
        case _:
            pass
    return Fault(kind=kind, at_ms=at_ms, node=node, target=target, for_ms=for_ms, amount=amount, step=step)
