"""The judge of histories, by histories made by hand: good ones pass, each lie is named."""

from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from msgspec.structs import replace

from overseer.simulation.linearizability import Asked, Committed, History, Read, Told, judge
from overseer.simulation.scenario import Violation

KEY = "e"
Change = Callable[[History], History]


def asked(at_ms: int, id: str, name: str, *, attempt: int, digest: bytes = b"1", **fields: Any) -> Asked:
    return Asked(at_ms, KEY, id, attempt, digest, name, {"election": KEY, **fields})


def recorded(at_ms: int, id: str, outcome: dict[str, Any], code: str = "", event: str = "", **fields: Any) -> Committed:
    events = [(f"elections.event.{event}", 1, cbor2.dumps({"election": KEY, **fields}))] if event else []
    return Committed(at_ms, KEY, id, b"1", code, cbor2.dumps(outcome), events)


def told(at_ms: int, id: str, attempt: int, outcome: dict[str, Any], code: str = "") -> Told:
    return Told(at_ms, KEY, id, attempt, True, code, cbor2.dumps(outcome))


def accepted(sequence: int) -> dict[str, Any]:
    return {"election": KEY, "sequence": sequence, "copies": 3}


def good() -> History:
    """Opened; two vote, ann twice; closed. bob was never told, and asks again; eve was refused by the runtime; dan heard nothing."""
    opened = {"round": 1, "choices": ["x", "y"], "electorate": None, "sequence": 1}
    return History(
        asked=[
            asked(0, "open", "open_election", attempt=1, choices=["x", "y"], electorate=None),
            asked(20, "ann", "cast_ballot", attempt=2, voter=b"ann", choice="x"),
            asked(21, "bob", "cast_ballot", attempt=3, voter=b"bob", choice="y"),
            asked(50, "bob", "cast_ballot", attempt=4, voter=b"bob", choice="y"),
            asked(60, "ann again", "cast_ballot", attempt=5, voter=b"ann", choice="y"),
            asked(61, "eve", "cast_ballot", attempt=6, voter=b"eve", choice="x"),
            asked(62, "dan", "cast_ballot", attempt=7, voter=b"dan", choice="x"),
            asked(80, "close", "close_election", attempt=8),
            asked(90, "ann", "cast_ballot", attempt=9, digest=b"2", voter=b"ann", choice="y"),
        ],
        told=[
            told(10, "open", 1, accepted(1)),
            told(40, "ann", 2, accepted(2)),
            told(55, "bob", 4, accepted(3)),
            told(70, "ann again", 5, {"round": 1}, "already_cast"),
            Told(71, KEY, "eve", 6, False, "too_few_copies", b""),
            told(95, "close", 8, accepted(4)),
            Told(96, KEY, "ann", 9, False, "id_reused", b""),
        ],
        reads=[
            Read(5, KEY, "s1", 0, 0, 0, 0, False, (0, "idle", 0, 0, 0, 0)),
            Read(35, KEY, "s1", 1, 1, 1, 10, False, (1, "open", 1, 0, 0, 0)),
            Read(45, KEY, "s2", 2, 1),
            Read(65, KEY, "s2", 0, 2, 3, 40, True, (2, "open", 1, 1, 0, 0)),
            Read(95, KEY, "s1", 4, 4, 4, 0, False, (4, "closed", 1, 2, 0, 0)),
        ],
        order=[
            recorded(8, "open", accepted(1), event="election_opened", **opened),
            recorded(30, "ann", accepted(2), event="ballot_cast", round=1, voter=b"ann", choice="x"),
            recorded(38, "bob", accepted(3), event="ballot_cast", round=1, voter=b"bob", choice="y"),
            recorded(66, "ann again", {"round": 1}, "already_cast"),
            recorded(85, "close", accepted(4), event="election_closed", round=1, cast=2, sequence=4),
        ],
    )


def order(change: Callable[[list[Committed]], list[Committed]]) -> Change:
    return lambda history: replace(history, order=change(list(history.order)))


def answer(place: int, **changed: Any) -> Change:
    return lambda history: replace(history, told=[replace(each, **changed) if n == place else each for n, each in enumerate(history.told)])


def read(place: int, **changed: Any) -> Change:
    return lambda history: replace(
        history, reads=[replace(each, **changed) if n == place else each for n, each in enumerate(history.reads)]
    )


def record(place: int, **changed: Any) -> Change:
    return order(lambda records: [replace(each, **changed) if n == place else each for n, each in enumerate(records)])


BALLOT = recorded(86, "eve", accepted(3), event="ballot_cast", round=1, voter=b"eve", choice="x")
LIES: dict[str, tuple[str, Change]] = {
    "recorded twice": ("order", order(lambda r: [*r, replace(r[1], at_ms=90)])),
    "nobody asked": ("order", record(4, id="somebody")),
    "another body than was asked": ("order", record(4, digest=b"3")),
    "in the log before it was asked": ("order", record(1, at_ms=19)),
    "the log turned round": ("order", order(lambda r: [r[0], replace(r[2], at_ms=39), r[1], *r[3:]])),
    "acknowledged and lost": ("told", order(lambda r: r[:4])),
    "a ballot lost": ("rules", order(lambda r: [r[0], *r[2:]])),
    "a ballot doubled": ("rules", order(lambda r: [*r[:3], replace(BALLOT, id="dan", at_ms=63), *r[3:]])),
    "a refusal that the order does not explain": ("rules", record(3, code="polls_closed")),
    "accepted against the rules": ("rules", record(3, code="", outcome=cbor2.dumps(accepted(4)))),
    "another round": ("rules", record(3, outcome=cbor2.dumps({"round": 2}))),
    "a wrong count": ("rules", record(4, events=[("e.event.election_closed", 1, cbor2.dumps({"election": KEY, "round": 1, "cast": 1}))])),
    "an event of another election": ("rules", record(1, events=[("e.event.ballot_cast", 1, cbor2.dumps({"election": "f"}))])),
    "another event": ("rules", record(4, events=[("e.event.election_validated", 1, b"\xa0")])),
    "no event": ("rules", record(1, events=[])),
    "fewer copies": ("rules", record(1, outcome=cbor2.dumps({**accepted(2), "copies": 2}))),
    "told another outcome": ("told", answer(3, code="wrong_phase")),
    "told another number": ("told", answer(2, outcome=cbor2.dumps(accepted(2)))),
    "told before it was in the log": ("told", answer(1, at_ms=29)),
    "told to another body": ("told", answer(6, recorded=True, code="", outcome=cbor2.dumps(accepted(2)))),
    "refused as used, and it was not": ("told", answer(4, code="id_reused")),
    "refused for no known reason": ("told", answer(4, code="key_stopped")),
    "an answer to nobody": ("told", answer(4, attempt=77)),
    "read before it was committed": ("reads", read(1, at_ms=29, applied=2, committed=2, shown=(2, "open", 1, 1, 0, 0))),
    "read what never was": ("reads", read(4, applied=5, committed=5)),
    "read a state that never was": ("reads", read(4, shown=(4, "closed", 1, 3, 0, 0))),
    "told of events that are not committed": ("reads", read(1, at_ms=29, committed=2)),
    "fewer committed than shown": ("reads", read(3, committed=1)),
    "less than was required": ("reads", read(1, required=2)),
    "refused what is there": ("reads", read(2, applied=2)),
    "said to be fresh, and it is not": ("reads", read(3, stale=False, age_ms=5)),
}


def test_a_history_that_one_order_explains_is_good() -> None:
    judge(good())


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named(lie: str) -> None:
    check, change = LIES[lie]
    with pytest.raises(Violation) as broken:
        judge(change(good()))
    assert broken.value.checker == check, str(broken.value)


def test_what_was_over_before_another_began_comes_earlier() -> None:
    history = good()
    late = asked(45, "bob", "cast_ballot", attempt=3, voter=b"bob", choice="y")
    turned = [history.order[0], replace(history.order[2], outcome=cbor2.dumps(accepted(2)), at_ms=46)]
    history.order = [*turned, replace(history.order[1], outcome=cbor2.dumps(accepted(3)), at_ms=47), *history.order[3:]]
    history.asked = [*history.asked[:2], late, *history.asked[3:]]
    with pytest.raises(Violation, match="bob was asked"):
        judge(history)


def test_a_command_whose_outcome_nobody_heard_is_there_once_or_not_at_all() -> None:
    history = good()
    ballot = recorded(68, "dan", accepted(4), event="ballot_cast", round=1, voter=b"dan", choice="x")
    closed = recorded(85, "close", accepted(5), event="election_closed", round=1, cast=3, sequence=5)
    history.order = [*history.order[:4], ballot, closed]
    history.told[5] = told(95, "close", 8, accepted(5))
    history.reads = []
    judge(history)


@pytest.mark.parametrize("reason", ["moved", "unsettled"])
def test_what_was_refused_as_not_recorded_is_not_in_the_log_unless_nobody_knew(reason: str) -> None:
    history = good()
    history.order = [*history.order, recorded(99, "eve", {"phase": "closed", "command": "cast_ballot"}, "wrong_phase")]
    history.told[4] = Told(71, KEY, "eve", 6, False, "not_owned_yet", b"", reason)
    if reason == "unsettled":
        judge(history)
        return
    with pytest.raises(Violation, match="refused as not recorded"):
        judge(history)
    history.log_lost = True
    judge(history)
