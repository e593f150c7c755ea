"""A scenario of small subsystems: a counter with everything that a subsystem can have, its auditor, and gossip between nodes."""

from collections.abc import Mapping, Sequence
from random import Random

from counting import Add, AddLater, Auditor, Counter, Gossiper, Shout, Storm

from messages.codec import encode
from messages.message import Message
from overseer.ports.bus import StoredMessage
from overseer.runner.schema import Record
from overseer.simulation.scenario import Answer, AtRest, Cast, Checker, Network, Submission, Violation, alike
from overseer.tables import View

__all__ = ["Tallying", "scenario"]


class Total:
    """The counter's total is the sum of what was accepted: nothing twice, nothing missing."""

    name = "total"

    def __init__(self) -> None:
        self.accepted: dict[str, dict[str, int]] = {}
        self.losses: set[str] = set()

    def submitted(self, submission: Submission) -> None:
        pass

    def answered(self, answer: Answer) -> None:
        message = answer.submission.message
        if answer.code == "accepted" and isinstance(message, Add):
            self.accepted.setdefault(answer.submission.node, {})[answer.command_id] = message.amount

    def stored(self, node: str, message: StoredMessage) -> None:
        pass

    def lost(self, node: str, last_sequence: int, *, replaced: bool) -> None:
        self.losses.add(node)

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        pass

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        self.losses.add(node)

    def at_rest(self, rest: AtRest) -> None:
        from counting import TOTAL

        for node in rest.network.nodes:
            told = self.accepted.get(node, {})
            total = View(rest.store(node, "counter")).get(TOTAL, ("total",)) or 0
            # What nobody waited for is in the total as well.
            if node not in self.losses and sum(told.values()) > total:
                raise Violation(self.name, f"{node}: {total}, but {sum(told.values())} were told accepted")


class Tallying:
    name = "tallying"

    def __init__(self, inputs: int = 60) -> None:
        self.inputs = inputs

    def casts(self, network: Network) -> Mapping[str, Cast]:
        return alike(network, {"counter": Counter, "auditor": Auditor, "gossiper": Gossiper})

    def traffic(self, network: Network, random: Random) -> Sequence[Submission]:
        span_ms = int(network.hours * 3_600_000)
        made: list[Submission] = []
        for place in range(self.inputs):
            at_ms, node = random.randrange(span_ms), random.choice(network.nodes)
            made.append(self._one(place, at_ms, node, random))
        return sorted(made, key=lambda submission: submission.at_ms)

    def _one(self, place: int, at_ms: int, node: str, random: Random) -> Submission:
        match random.randrange(8):
            case 0:
                return Submission(at_ms=at_ms, node=node, message=Storm(level=place), sender="weather")
            case 1:
                return Submission(at_ms=at_ms, node=node, message=Shout(amount=place))
            case 2:
                later = AddLater(key=f"k{random.randrange(3)}", amount=place, after_ms=random.randrange(60_000))
                return Submission(at_ms=at_ms, node=node, message=later, command_id=f"later{place}")
            case 3:
                command = random.choice(("add", "take_from_auditor", "no_such_thing"))
                subject = f"overseer.{node}.op_evil.cmd.counter.{command}"
                body = random.choice((b"", b"\xff" * 9, encode(Add(amount=1))[:-1]))
                return Submission(at_ms=at_ms, node=node, subject=subject, body=body)
            case _:
                amount = random.choice((1, 10, 100, 10_000_000))
                add = Add(amount=amount, times=random.choice((1, 1, 3)), note="x" * random.choice((0, 300)))
                return Submission(at_ms=at_ms, node=node, message=add, command_id=f"add{place}")

    def checkers(self, network: Network, traffic: Sequence[Submission]) -> Sequence[Checker]:
        return [Total()]


scenario = Tallying()
