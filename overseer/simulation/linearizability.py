"""Judges a history of replicated elections: is there one order of each election's commands that explains all that anybody saw?

The order is not searched for: the log claims one, and is taken at its word. So it is checked (Herlihy and Wing's definition,
with a witness): every command is in it at most once; it respects real time (what was over before another one was first asked comes
earlier); played by the rules (`ballot_model`), it makes exactly the outcomes and events that are recorded; every outcome that
anybody was told is the recorded one. A command whose outcome nobody heard is in it once or not at all. A command that was refused as *not
recorded* each time it was asked is not in it. Readers were shown nothing but beginnings of it, none before it was committed.

Nothing of the code that is judged is used here: bodies are read with a CBOR library of the world's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cbor2
import msgspec

from overseer.simulation.ballot_model import BallotModel, Shown
from overseer.simulation.scenario import Violation

__all__ = ["Asked", "Committed", "History", "Read", "Told", "judge"]

# Refusals that promise: this asking was not recorded, and never will be.
_NOT_RECORDED = frozenset({"too_few_copies", "writer_busy", "not_owned_yet"})
# But for this reason of `not_owned_yet`: nobody knows yet.
_UNSETTLED = "unsettled"


class Asked(msgspec.Struct, frozen=True):
    """Somebody asked, under this id. `attempt` tells askings apart; `digest` tells what was asked; `name` and `fields` say it."""

    at_ms: int
    election: str
    id: str
    attempt: int
    digest: bytes
    name: str
    fields: Mapping[str, Any]


class Told(msgspec.Struct, frozen=True):
    """An answer to one asking. `recorded`: it is the outcome of a command in the log, not a refusal of the runtime's."""

    at_ms: int
    election: str
    id: str
    attempt: int
    recorded: bool
    code: str
    outcome: bytes
    reason: str = ""


class Read(msgspec.Struct, frozen=True):
    """What a reader who required event `required` was shown at a site; `shown` is None for one who was refused."""

    at_ms: int
    election: str
    site: str
    required: int
    applied: int
    committed: int = 0
    age_ms: int = 0
    stale: bool = False
    shown: Shown | None = None


class Committed(msgspec.Struct, frozen=True):
    """One command's record, in the order of the log. `at_ms`: when the log took it. Events: (type, version, body)."""

    at_ms: int
    election: str
    id: str
    digest: bytes
    code: str
    outcome: bytes
    events: Sequence[tuple[str, int, bytes]]


class History(msgspec.Struct):
    """All that was seen from outside, and the order that the log claims. `log_lost`: the log itself was lost in between.

    What was prepared and refused as not recorded may then come to life (docs/elections.md).
    """

    asked: list[Asked]
    told: list[Told]
    reads: list[Read]
    order: Sequence[Committed]
    log_lost: bool = False
    # On how many sites an accepted command is said to be durable.
    copies: int = 3


def judge(history: History) -> None:
    """Raises Violation: `order`, `real time`, `rules`, `told`, `refused` or `reads`."""
    for election in sorted({each.election for each in (*history.asked, *history.order, *history.reads)}):
        _Judge(history, election).judge()


class _Judge:
    """Of one election."""

    def __init__(self, history: History, election: str) -> None:
        self._election = election
        self._log_lost = history.log_lost
        self._copies = history.copies
        self._told = [each for each in history.told if each.election == election]
        self._reads = [each for each in history.reads if each.election == election]
        self._order = [each for each in history.order if each.election == election]
        self._asked: dict[str, list[Asked]] = {}
        for each in history.asked:
            if each.election == election:
                self._asked.setdefault(each.id, []).append(each)
        self._recorded: dict[str, Committed] = {}
        # After so many events: what is shown, and when it was committed.
        self._shown: list[Shown] = [BallotModel().shown]
        self._since: list[int] = [0]

    def judge(self) -> None:
        self._judge_order()
        self._judge_real_time()
        self._judge_rules()
        self._judge_told()
        self._judge_refused()
        for read in self._reads:
            self._judge_read(read)

    def _broken(self, check: str, what: str) -> Violation:
        return Violation(check, f"{self._election}: {what}")

    # -------------------------------------------------------------------------------------------- the order

    def _asking(self, record: Committed) -> Asked:
        for asked in self._asked.get(record.id, ()):
            if asked.digest == record.digest and asked.at_ms <= record.at_ms:
                return asked
        raise self._broken("order", f"{record.id} is in the log, and nobody had asked for it")

    def _judge_order(self) -> None:
        at_ms = 0
        for record in self._order:
            if record.id in self._recorded:
                raise self._broken("order", f"{record.id} is in the log twice")
            if record.at_ms < at_ms:
                raise self._broken("order", f"{record.id} came into the log before what is in front of it")
            at_ms = record.at_ms
            self._recorded[record.id] = record
            self._asking(record)

    def _judge_real_time(self) -> None:
        over: dict[str, int] = {}
        for told in self._told:
            if told.recorded:
                over.setdefault(told.id, told.at_ms)
        latest, which = -1, ""
        for record in self._order:
            if over.get(record.id, latest) < latest:
                raise self._broken("real time", f"{record.id} was over before {which} was asked, which comes earlier in the log")
            begun = self._asking(record).at_ms
            if begun > latest:
                latest, which = begun, record.id

    def _judge_rules(self) -> None:
        model = BallotModel()
        for record in self._order:
            asked = self._asking(record)
            expected = model.take(asked.name, asked.fields)
            where = f"{record.id} ({asked.name})"
            if record.code != expected.code:
                raise self._broken("rules", f"{where} is {record.code or 'accepted'}, not {expected.code or 'accepted'}, in this order")
            copies = {} if expected.code else {"copies": self._copies}
            self._same(where, {**expected.outcome, **copies}, cbor2.loads(record.outcome))
            if len(record.events) != int(bool(expected.event)):
                raise self._broken("rules", f"{where} has {len(record.events)} events")
            for kind, _, body in record.events:
                if kind.rpartition(".")[2] != expected.event:
                    raise self._broken("rules", f"{where} made {kind}, not {expected.event}")
                self._same(where, {"election": self._election, **expected.fields}, cbor2.loads(body))
                self._shown.append(model.shown)
                self._since.append(record.at_ms)

    def _same(self, where: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        for name, value in expected.items():
            if found.get(name) != value:
                raise self._broken("rules", f"{where}: {name} is {found.get(name)!r}, not {value!r}")

    # -------------------------------------------------------------------------------------------- answers

    def _judge_told(self) -> None:
        asked = {each.attempt: each for attempts in self._asked.values() for each in attempts}
        for told in self._told:
            question = asked.get(told.attempt)
            if question is None or (question.id, question.at_ms <= told.at_ms) != (told.id, True):
                raise self._broken("told", f"{told.id}: an answer to nobody's question")
            if told.recorded:
                self._judge_outcome(told, question)
            elif told.code == "id_reused":
                others = [each for each in self._asked[told.id] if each.digest != question.digest and each.at_ms <= told.at_ms]
                if not others:
                    raise self._broken("told", f"{told.id} was refused as used before, and was not")
            elif told.code not in _NOT_RECORDED:
                raise self._broken("told", f"{told.id} was refused with {told.code}")

    def _judge_outcome(self, told: Told, question: Asked) -> None:
        record = self._recorded.get(told.id)
        if record is None:
            raise self._broken("told", f"{told.id} was acknowledged, and is not in the log")
        if record.digest != question.digest:
            raise self._broken("told", f"{told.id}: whoever asked was told what became of another command")
        if (record.code, record.outcome) != (told.code, told.outcome):
            raise self._broken(
                "told", f"{told.id} was told {told.code or 'accepted'}, recorded is {record.code or 'accepted'}, or another body"
            )
        if told.at_ms < record.at_ms:
            raise self._broken("told", f"{told.id} was acknowledged {record.at_ms - told.at_ms} ms before it was in the log")

    def _judge_refused(self) -> None:
        """Refused as not recorded at every asking: not in the log, then."""
        if self._log_lost:
            return
        refused = {told.attempt for told in self._told if told.code in _NOT_RECORDED and told.reason != _UNSETTLED}
        for record in self._order:
            attempts = [each for each in self._asked[record.id] if each.digest == record.digest]
            if all(each.attempt in refused for each in attempts):
                raise self._broken("refused", f"{record.id} was refused as not recorded whenever it was asked, and is in the log")

    # -------------------------------------------------------------------------------------------- readers

    def _judge_read(self, read: Read) -> None:
        where = f"a reader at {read.site} at {read.at_ms} ms"
        if read.shown is None:
            if read.applied >= read.required:
                raise self._broken("reads", f"{where} was refused event {read.required} though {read.applied} are there")
            return
        if read.applied < read.required:
            raise self._broken("reads", f"{where} required event {read.required} and was shown {read.applied}")
        for what, number in (("was shown", read.applied), ("was told of", read.committed)):
            if number >= len(self._shown) or self._since[number] > read.at_ms:
                raise self._broken("reads", f"{where} {what} event {number}, which was not committed")
        if read.shown != self._shown[read.applied]:
            raise self._broken(
                "reads", f"{where} was shown {read.shown}, and after event {read.applied} there is {self._shown[read.applied]}"
            )
        if read.committed < read.applied:
            raise self._broken("reads", f"{where} was shown event {read.applied} and told that {read.committed} are committed")
        missing = sum(since < read.at_ms - read.age_ms for since in self._since[1:]) - read.applied
        if not read.stale and missing > 0:
            raise self._broken("reads", f"{where} was told that nothing is missing but of the last {read.age_ms} ms; {missing} events are")
