"""The plan of one disputes' simulation: its chain, its disputes, who is told what when. Drawn from the random numbers alone.

Time is counted in ticks, one for each height of the main chain; `submissions` turns them into milliseconds, with delays that
differ by node, so that no two nodes see one order.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from messages.chain_api import FinalizeBlock, ImportBlock, Resume, ResumeMode
from messages.message import Message
from messages.polkadot import Side, Transaction, TransactionKind, VoteKind
from messages.transaction import transaction_id
from overseer.feeds.make import make_block, make_resume
from overseer.simulation.disputes_cast import AUTHORITY, GENESIS
from overseer.simulation.disputes_votes import VALID_KINDS, Ballot, Candidate, bundle, candidate, validators
from overseer.simulation.scenario import Network, Submission

__all__ = ["Dispute", "Plan", "Said"]

# Of the time given, what traffic takes; the rest is for what follows from it.
_BUSY = 0.85
_TICKS_AFTER = 6
# How far apart one input may reach different nodes, in ticks: what each node draws from.
_SPREADS = (0.05, 0.3, 0.3, 2.5)


class Said(NamedTuple):
    """One input of the plan: to all nodes, or to those named."""

    tick: float
    message: Message
    label: str
    nodes: tuple[str, ...]
    sender: str = "op_feed"


class Dispute(NamedTuple):
    """A planned dispute. `block`: the height that its candidate is included at (0: nowhere)."""

    candidate: Candidate
    session: int
    ballots: list[Ballot]
    tick: float


class Plan:
    """One seed's chain and disputes."""

    # How high the chain of an ordinary seed grows.
    heights = (6, 12)

    def __init__(self, network: Network, random: Random) -> None:
        self.network = network
        self.random = random
        self.said: list[Said] = []
        self.disputes: list[Dispute] = []
        self.blocks: dict[bytes, ImportBlock] = {}
        # The main chain by height, genesis first.
        self.main: list[bytes] = [GENESIS]
        large = random.random() < 0.06
        self.height = random.randint(20, 30) if large else random.randint(*self.heights)
        self.size = random.choice((10, 13)) if large else random.choice((4, 4, 5, 6, 7))
        self.lag = random.randint(1, 4)
        self.sessions = self._sessions()
        # The height, if any, of a main block that is found bad after it is final; and how governance mode ends.
        self.bad_final = random.randint(2, max(2, self.height - self.lag - 3)) if random.random() < 0.35 else 0
        self.resume_mode = random.choice((ResumeMode.PARDON, ResumeMode.ABANDON))
        self._next_candidate = 0
        # Candidates that main blocks include, by height; transactions, likewise.
        self.included: dict[int, list[bytes]] = {}
        # Branches beside it: tick, height of the block they grow on, depth, candidates included, salt.
        self._branches: list[tuple[float, int, int, list[bytes], str]] = []
        self.backed: dict[int, list[bytes]] = {}
        self._executed: dict[int, list[bytes]] = {}
        self._spread = {node: random.choice(_SPREADS) for node in network.nodes}
        self._plan_disputes(random.randint(6, 9) if large else random.randint(1, 4))
        self._plan_chain()
        self._plan_end()

    # -------------------------------------------------------------------------------------------- sessions

    def _sessions(self) -> dict[int, int]:
        """Session -> its first height."""
        starts: dict[int, int] = {1: 1}
        length = self.random.randint(2, 6)
        for height in range(1 + length, self.height + 1, length):
            starts[len(starts) + 1] = height
        return starts

    def session_at(self, height: int) -> int:
        return max((s for s, first in self.sessions.items() if first <= height), default=1)

    def keys(self, session: int) -> list[int]:
        """The session's validators: a window of the family of keys that moves on with each session."""
        return list(range(session % 19, session % 19 + self.size))

    @property
    def faulty_max(self) -> int:
        return (self.size - 1) // 3

    # -------------------------------------------------------------------------------------------- saying

    def say(self, tick: float, message: Message, label: str, nodes: Sequence[str] = (), *, sender: str = "op_feed") -> None:
        self.said.append(Said(tick, message, label, tuple(nodes) or self.network.nodes, sender))

    def fresh_candidate(self) -> Candidate:
        # Two apart: an approval of several names the next one too, and those are shared on purpose now and then.
        self._next_candidate += self.random.choice((1, 2))
        return candidate(self._next_candidate)

    def put(self, tick: float, block: ImportBlock) -> bytes:
        if block.hash not in self.blocks:
            self.blocks[block.hash] = block
            self.say(tick, block, f"block-{block.number}-{block.hash.hex()[:6]}")
        return block.hash

    def branch(self, tick: float, height: int, depth: int, included: Sequence[bytes], salt: str) -> list[bytes]:
        """Blocks beside the main chain, on its block `height`; the first of them includes the candidates."""
        parent, found = self.main[height], list[bytes]()
        for step in range(depth):
            number = height + 1 + step
            block = make_block(
                parent,
                number,
                session=self.session_at(height) if height else 1,
                included=included if step == 0 else (),
                salt=f"{salt} {step}".encode(),
            )
            parent = self.put(tick + 0.2 * step, block)
            found.append(parent)
        return found

    # -------------------------------------------------------------------------------------------- disputes

    def _plan_disputes(self, count: int) -> None:
        kinds = ("for", "against", "against", "forks", "early", "open", "turned", "unknown", "late", "double")
        for place in range(count):
            height = self.random.randint(1, self.height)
            self._plan_dispute(self.random.choice(kinds), height, f"dispute {place}")
        if self.bad_final:
            bad = self.fresh_candidate()
            self.included.setdefault(self.bad_final, []).append(bad.hash)
            self._vote(bad, self.bad_final, self.bad_final + self.lag + 1.5, self._camps("against"))

    def _plan_dispute(self, kind: str, height: int, label: str) -> None:
        voted, tick = self.fresh_candidate(), height + self.random.uniform(0.2, 3)
        match kind:
            case "for" | "turned" | "double":
                self.included.setdefault(height, []).append(voted.hash)
                self.backed.setdefault(max(1, height - 1), []).append(voted.hash)
            case "against" | "late" | "early" | "forks":
                shown = tick + 2.5 if kind == "early" else height - self.random.uniform(0, 0.5)
                for place in range(2 if kind == "forks" else 1):
                    self.later_branch(shown, max(0, height - 1 - place), self.random.randint(1, 4), [voted.hash], f"{label} {place}")
            case _:
                pass
        self._vote(voted, height, tick, self._camps(kind))

    def later_branch(self, tick: float, height: int, depth: int, included: Sequence[bytes], salt: str) -> None:
        """A branch of the main chain, which is not there yet while disputes are planned."""
        self._branches.append((tick, height, depth, list(included), salt))

    def _camps(self, kind: str) -> list[Ballot]:
        """Who votes how, in the order of speaking."""
        random = self.random
        order = random.sample(range(self.size), self.size)
        faulty, needed = self.faulty_max, self.size - self.faulty_max
        against = [(v, VoteKind.EXPLICIT_INVALID) for v in order]
        pro = [(v, random.choice(VALID_KINDS)) for v in order]
        match kind:
            case "for":
                liars = max(1, faulty)
                return self._shuffled([*against[:liars], *pro[liars : liars + needed]])
            case "against" | "early" | "forks":
                return self._shuffled([*pro[: max(1, faulty)], *against[max(1, faulty) :]])
            case "late":
                return [*pro[:1], *against[1 : 1 + needed], *pro[1 + needed :]]
            case "turned":
                # Challenged by f + 1, then nevertheless found valid: some vote both ways.
                return [*pro[:1], *against[1 : 2 + faulty], *pro[1 : needed + 1]]
            case "double":
                # First for, then against by all the same validators (D08).
                return [*against[:1], *pro[: needed + 1], *against[1:]]
            case "unknown":
                return [(order[0], VoteKind.EXPLICIT_VALID), (order[-1], VoteKind.EXPLICIT_INVALID)]
            case _:
                return [*pro[:1], *against[1 : 1 + max(1, random.randint(1, needed - 1))]]

    def _shuffled(self, ballots: list[Ballot]) -> list[Ballot]:
        return self.random.sample(ballots, len(ballots))

    def _vote(self, voted: Candidate, height: int, tick: float, ballots: list[Ballot]) -> None:
        """The ballots in bundles of some votes, told one after the other; some to one node alone, some twice."""
        random, session = self.random, self.session_at(min(max(height, 1), self.height))
        self.disputes.append(Dispute(voted, session, ballots, tick))
        at = 0
        while at < len(ballots):
            size = random.randint(1, 4)
            message = bundle(
                voted,
                session,
                self.keys(session),
                ballots[at : at + size],
                block_number=random.randint(0, self.height),
                pov=random.random() < 0.3,
            )
            nodes = self.network.nodes if random.random() < 0.7 else (random.choice(self.network.nodes),)
            self.say(tick, message, f"votes-{voted.number}-{at}", nodes, sender="op_voters")
            if random.random() < 0.15:
                self.say(tick + random.uniform(0, 2), message, f"votes-{voted.number}-{at}-again", nodes, sender="op_voters")
            at += size
            tick += random.uniform(0.05, 0.6)
        self._plan_execution(voted, session, ballots, int(tick) + 2)

    def _plan_execution(self, voted: Candidate, session: int, ballots: list[Ballot], height: int) -> None:
        """Some of the transactions that may follow, for a later block to execute."""
        side, kind = self.random.choice(((Side.INVALID, TransactionKind.REWARD), (Side.VALID, TransactionKind.SLASH)))
        voters = [v for v, vote in ballots if vote is VoteKind.EXPLICIT_INVALID][:2]
        named = [Transaction(kind, session, voted.hash, v, side, VoteKind.EXPLICIT_INVALID, bytes(64)) for v in voters]
        self._executed.setdefault(min(height, self.height), []).extend(map(transaction_id, named))

    # -------------------------------------------------------------------------------------------- the chain

    def _plan_chain(self) -> None:
        starts = {first: session for session, first in self.sessions.items()}
        for height in range(1, self.height + 1):
            starting = starts.get(height)
            block = make_block(
                self.main[-1],
                height,
                session=self.session_at(height),
                session_start=None if starting is None else validators(self.keys(starting)),
                backed=self.backed.get(height, ()),
                included=self.included.get(height, ()),
                transactions=self._executed.get(height, ()),
            )
            self.main.append(self.put(height, block))
            if height > self.lag and self.random.random() < 0.8:
                self.finalize(height + 0.4, self.main[height - self.lag])
        for tick, height, depth, included, salt in self._branches:
            self.branch(tick, height, depth, included, salt)

    def finalize(self, tick: float, block: bytes) -> None:
        self.say(tick, FinalizeBlock(hash=block), f"finalize-{block.hex()[:6]}-{tick:.1f}")

    def _plan_end(self) -> None:
        """The last finality again, as what was told too early is refused for good; the end of governance mode; what comes after it."""
        end = self.height + 1.0
        for block in (self.main[max(0, self.height - self.lag)], self.main[-1]):
            if block != GENESIS and self.random.random() < 0.7:
                self.finalize(end, block)
        if not self.bad_final:
            return
        for attempt in range(4):
            self.say(end + 1.2 * attempt, self.resume(), f"resume-{attempt}", sender="op_authority")
        if self.resume_mode is ResumeMode.ABANDON:
            found = self.branch(end + 2, self.bad_final - 1, self.random.randint(1, 4), (), "after")
            for attempt in range(2):
                self.finalize(end + 3 + attempt, found[0])

    def resume(self) -> Resume:
        """The exit of governance mode as it is expected to be entered: once, because of the one bad block."""
        roots = [self.main[self.bad_final]] if self.resume_mode is ResumeMode.PARDON else []
        return make_resume(AUTHORITY, self.resume_mode, chain=GENESIS, entry=1, frozen_at=self.bad_final - 1, roots=roots)

    # -------------------------------------------------------------------------------------------- ticks into milliseconds

    def at_ms(self, tick: float) -> int:
        ticks = self.height + _TICKS_AFTER
        return int(self.network.hours * 3_600_000 * _BUSY * max(0.0, min(tick, ticks)) / ticks)

    def submissions(self) -> list[Submission]:
        """All that is said, to each node at its own time."""
        found: list[Submission] = []
        for number, said in enumerate(self.said):
            for node in said.nodes:
                tick = said.tick + self.random.random() * self._spread[node]
                found.append(
                    Submission(
                        at_ms=self.at_ms(tick),
                        node=node,
                        message=said.message,
                        command_id=f"{node}-{number}-{said.label}",
                        sender=said.sender,
                    )
                )
        return sorted(found, key=lambda s: s.at_ms)
