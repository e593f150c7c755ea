"""A whole subsystem: it adds up what it is told, and forgets the sum after a quiet minute."""

from collections.abc import Iterable

from messages.message import Message, Rejection, command, event, fact, query, rejection, reply, timer
from messages.primitives import U32, U64, TimeMs
from overseer.subsystem import Check, Context, Decision, Declaration, SetTimer
from overseer.tables import TEXT, Table, Tables, View

QUIET_MS = 60_000
MOST = 1_000

# ------------------------------------------------------------------------------------------------ the contract


@reply(by="counter")
class Total(Message, frozen=True, kw_only=True):
    total: U64


@command(to="counter", reply=Total)
class Add(Message, frozen=True, kw_only=True):
    """Add `amount`; an accepted outcome carries the new total."""

    amount: U32


@query(to="counter", reply=Total)
class GetTotal(Message, frozen=True, kw_only=True):
    pass


@rejection(by="counter")
class TooMuch(Rejection, frozen=True, kw_only=True):
    most: U32


@fact(by="counter")
class Counted(Message, frozen=True, kw_only=True):
    amount: U32
    total: U64
    at_ms: TimeMs


@event(by="counter")
class Forgotten(Message, frozen=True, kw_only=True):
    at_ms: TimeMs


@timer(by="counter")
class Quiet(Message, frozen=True, kw_only=True):
    """A minute has passed since the last addition."""


# ------------------------------------------------------------------------------------------------ the decisions

SUM = Table("sum", key=(TEXT,), value=int)
THE_SUM = ("sum",)

DECLARATION = Declaration(
    name="counter",
    description="Adds up what it is told",
    consumes=(Add,),
    sends=(Counted,),
    answers=(GetTotal,),
    requests=(Add,),
    events=(Forgotten,),
    timers=(Quiet,),
    rejections=(TooMuch,),
    tables=(SUM,),
)


class Counter:
    """Five pure functions over one table."""

    @property
    def declaration(self) -> Declaration:
        return DECLARATION

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        match message:
            case Add() if message.amount > MOST:
                return TooMuch(most=MOST)
            case Add():
                total = (view.get(SUM, THE_SUM) or 0) + message.amount
                counted = Counted(amount=message.amount, total=total, at_ms=context.now_ms)
                quiet = SetTimer(key="quiet", at_ms=context.now_ms + QUIET_MS, message=Quiet())
                return Decision(events=[counted], timers=[quiet], reply=Total(total=total))
            case Quiet():
                return Decision(events=[Forgotten(at_ms=context.now_ms)])
            case _:
                return Decision()

    def evolve(self, tables: Tables, event: Message) -> None:
        match event:
            case Counted():
                tables.put(SUM, THE_SUM, event.total)
            case Forgotten():
                tables.delete(SUM, THE_SUM)
            case _:
                raise TypeError(f"{event.spec.key} is not an event of the counter")

    def react(self, event: Message) -> Iterable[Message]:
        return [event] if isinstance(event, Counted) else []

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        return Total(total=view.get(SUM, THE_SUM) or 0)

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        return ()
