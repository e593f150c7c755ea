"""A whole subsystem on one page: a counter that pauses after each step. Run it: python docs/examples/counter.py"""

from collections.abc import Iterable
from typing import assert_never, cast

from messages.message import Message, Rejection, command, event, fact, query, rejection, reply, timer
from messages.primitives import U32, U64, TimeMs
from overseer.subsystem import Check, Context, Decision, Declaration, SetTimer
from overseer.tables import TEXT, Table, Tables, View
from overseer.testing.given import Given

PAUSE_MS = 1_000
COUNT_MAX = 1_000

# ------------------------------------------------------------------------------------------------ the contract


@reply(by="counter")
class Counted(Message, frozen=True, kw_only=True):
    count: U64


@command(to="counter", reply=Counted)
class Increase(Message, frozen=True, kw_only=True):
    """Add `by` to the counter called `name`."""

    name: str
    by: U32


@query(to="counter", reply=Counted)
class ReadCounter(Message, frozen=True, kw_only=True):
    name: str


@fact(by="counter")
class CounterIncreased(Message, frozen=True, kw_only=True):
    """Recorded and published: a fact may serve as a journal event."""

    name: str
    count: U64


@event(by="counter")
class Paused(Message, frozen=True, kw_only=True):
    """Recorded only. It carries all that `evolve` needs."""

    name: str
    until_ms: TimeMs


@event(by="counter")
class Resumed(Message, frozen=True, kw_only=True):
    name: str


@timer(by="counter")
class PauseOver(Message, frozen=True, kw_only=True):
    name: str


@rejection(by="counter")
class InPause(Rejection, frozen=True, kw_only=True):
    until_ms: TimeMs

    @property
    def retriable(self) -> bool:
        return True


@rejection(by="counter")
class TooMuch(Rejection, frozen=True, kw_only=True):
    count_max: U64


# ------------------------------------------------------------------------------------------------ the tables

COUNTS = Table("counts", key=(TEXT,), value=int)
PAUSES = Table("pauses", key=(TEXT,), value=int)

DECLARATION = Declaration(
    name="counter",
    description="Counts by name, with a pause after each step.",
    consumes=(Increase,),
    sends=(CounterIncreased,),
    answers=(ReadCounter,),
    requests=(Increase,),
    events=(Paused, Resumed),
    timers=(PauseOver,),
    rejections=(InPause, TooMuch),
    tables=(COUNTS, PAUSES),
)

# ------------------------------------------------------------------------------------------------ the subsystem


class Counter:
    """The five functions."""

    declaration = DECLARATION

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        match message:
            case Increase(name=name, by=by):
                until_ms = view.get(PAUSES, (name,))
                if until_ms is not None:
                    return InPause(until_ms=until_ms)
                count = (view.get(COUNTS, (name,)) or 0) + by
                if count > COUNT_MAX:
                    return TooMuch(count_max=COUNT_MAX)
                until_ms = context.now_ms + PAUSE_MS
                return Decision(
                    events=[CounterIncreased(name=name, count=count), Paused(name=name, until_ms=until_ms)],
                    timers=[SetTimer(key=f"pause {name}", at_ms=until_ms, message=PauseOver(name=name))],
                    reply=Counted(count=count),
                )
            case PauseOver(name=name):
                return Decision(events=[Resumed(name=name)])
            case _:
                return Decision()

    def evolve(self, tables: Tables, event: Message) -> None:
        match cast(CounterIncreased | Paused | Resumed, event):
            case CounterIncreased(name=name, count=count):
                tables.put(COUNTS, (name,), count)
            case Paused(name=name, until_ms=until_ms):
                tables.put(PAUSES, (name,), until_ms)
            case Resumed(name=name):
                tables.delete(PAUSES, (name,))
            case other:
                assert_never(other)

    def react(self, event: Message) -> Iterable[Message]:
        return (event,) if isinstance(event, CounterIncreased) else ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        assert isinstance(query, ReadCounter)
        return Counted(count=view.get(COUNTS, (query.name,)) or 0)

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        return ()


# ------------------------------------------------------------------------------------------------ its test


def test_a_counter_pauses_after_each_step_and_is_rebuilt_from_its_events() -> None:
    counter = Given(Counter())
    first = counter.when(Increase(name="apples", by=2), now_ms=2_000_000)
    assert first.reply == Counted(count=2)
    assert first.sent == [CounterIncreased(name="apples", count=2)]

    assert counter.when(Increase(name="apples", by=1)).rejection == InPause(until_ms=2_001_000)
    counter.settle(now_ms=2_001_000)
    assert counter.when(Increase(name="apples", by=COUNT_MAX)).rejection == TooMuch(count_max=COUNT_MAX)
    assert counter.when(Increase(name="apples", by=1)).reply == Counted(count=3)

    assert counter.ask(ReadCounter(name="apples")) == Counted(count=3)
    assert counter.replayed().ask(ReadCounter(name="apples")) == Counted(count=3)


if __name__ == "__main__":
    test_a_counter_pauses_after_each_step_and_is_rebuilt_from_its_events()
    print("the counter counts")
