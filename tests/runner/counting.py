"""Two small subsystems: a counter with everything a subsystem can have, and an auditor that asks it."""

from collections.abc import Callable, Iterable

from messages.message import Message, Rejection, command, event, fact, network, query, rejection, reply, signal, timer
from messages.primitives import U32, U64, TimeMs
from overseer.subsystem import CancelTimer, Check, Context, Decision, Declaration, SetTimer
from overseer.tables import TEXT, Table, Tables, View
from overseer.tables import U64 as U64_KEY


@reply(by="counter")
class Total(Message, frozen=True, kw_only=True):
    total: U64
    position: U64


@command(to="counter", reply=Total)
class Add(Message, frozen=True, kw_only=True):
    """Add `amount`; `note` makes it as large as one likes, `times` tells the fact so many times."""

    amount: U32
    note: str = ""
    times: U32 = 1


@command(to="counter")
class AddLater(Message, frozen=True, kw_only=True):
    """Add `amount` in `after_ms`; the same `key` replaces, an amount of 0 cancels."""

    key: str
    amount: U32
    after_ms: U64


@command(to="counter")
class TakeFromAuditor(Message, frozen=True, kw_only=True):
    """Taken from the auditor alone."""

    amount: U32


@query(to="counter", reply=Total)
class QueryTotal(Message, frozen=True, kw_only=True):
    pass


@rejection(by="counter")
class TooMuch(Rejection, frozen=True, kw_only=True):
    most: U32


@event(by="counter")
class AmountAdded(Message, frozen=True, kw_only=True):
    amount: U32
    at_ms: TimeMs
    note: str
    times: U32


@fact(by="counter")
class Counted(Message, frozen=True, kw_only=True):
    """The count after an addition; `amount` names it."""

    amount: U32
    at_ms: TimeMs
    note: str
    copy_: U32


@timer(by="counter")
class Later(Message, frozen=True, kw_only=True):
    amount: U32


@signal(by="weather")
class Storm(Message, frozen=True, kw_only=True):
    level: U32


@event(by="counter")
class StormSeen(Message, frozen=True, kw_only=True):
    level: U32


@command(to="auditor")
class Audit(Message, frozen=True, kw_only=True):
    level: U32


@event(by="auditor")
class AuditSeen(Message, frozen=True, kw_only=True):
    """`storm` is the level the auditor itself knew of when it was asked."""

    level: U32
    storm: U32


@event(by="auditor")
class AuditorStorm(Message, frozen=True, kw_only=True):
    level: U32


TOTAL = Table("total", key=(TEXT,), value=int)
AMOUNTS = Table("amounts", key=(U64_KEY,), value=int)
MOST = 1_000_000


class Counter:
    """`hook` runs before each decision: where tests make it fail."""

    def __init__(self, *, evolve_version: int = 1, hook: Callable[[Message], None] | None = None, weight: int = 1) -> None:
        self.hook = hook
        self.weight = weight
        self.evolve_hook: Callable[[Message], None] | None = None
        self.declaration = Declaration(
            name="counter",
            description="Adds up what it is told",
            consumes=(Add, AddLater, TakeFromAuditor, Storm),
            sends=(Counted, Audit),
            answers=(QueryTotal,),
            requests=(Add,),
            restricted={TakeFromAuditor: ("auditor",)},
            events=(AmountAdded, StormSeen),
            timers=(Later,),
            rejections=(TooMuch,),
            tables=(TOTAL, AMOUNTS),
            evolve_version=evolve_version,
        )

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        if self.hook is not None:
            self.hook(message)
        total = view.get(TOTAL, ("total",)) or 0
        match message:
            case Add(amount=amount) if amount > MOST:
                return TooMuch(most=MOST)
            case Add(amount=amount, note=note, times=times):
                added = AmountAdded(amount=amount, at_ms=context.now_ms, note=note, times=times)
                return Decision(events=[added], reply=Total(total=total + amount * self.weight, position=context.position))
            case TakeFromAuditor(amount=amount) | Later(amount=amount):
                return Decision(events=[AmountAdded(amount=amount, at_ms=context.now_ms, note="", times=1)])
            case AddLater(key=key, amount=0):
                return Decision(timers=[CancelTimer(key=key)])
            case AddLater(key=key, amount=amount, after_ms=after_ms):
                return Decision(timers=[SetTimer(key=key, at_ms=context.now_ms + after_ms, message=Later(amount=amount))])
            case Storm(level=level):
                return Decision(events=[StormSeen(level=level)])
            case _:
                return Decision()

    def evolve(self, tables: Tables, event: Message) -> None:
        if self.evolve_hook is not None:
            self.evolve_hook(event)
        if isinstance(event, AmountAdded):
            tables.put(TOTAL, ("total",), (tables.get(TOTAL, ("total",)) or 0) + event.amount * self.weight)
            count = tables.get(TOTAL, ("count",)) or 0
            tables.put(TOTAL, ("count",), count + 1)
            tables.put(AMOUNTS, (count + 1,), event.amount)

    def react(self, event: Message) -> Iterable[Message]:
        if isinstance(event, AmountAdded):
            return [Counted(amount=event.amount, at_ms=event.at_ms, note=event.note, copy_=n) for n in range(event.times)]
        if isinstance(event, StormSeen):
            return [Audit(level=event.level)]
        return ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        return Total(total=view.get(TOTAL, ("total",)) or 0, position=context.position)

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        return ()


STORM = Table("storm", key=(TEXT,), value=int)


class Auditor:
    """Hears the same signals, and takes the counter's commands."""

    declaration = Declaration(
        name="auditor",
        description="Notes what it knew when it was asked",
        consumes=(Audit, Storm),
        sends=(),
        answers=(),
        events=(AuditSeen, AuditorStorm),
        tables=(STORM,),
    )

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        match message:
            case Storm(level=level):
                return Decision(events=[AuditorStorm(level=level)])
            case Audit(level=level):
                return Decision(events=[AuditSeen(level=level, storm=view.get(STORM, ("level",)) or 0)])
            case _:
                return Decision()

    def evolve(self, tables: Tables, event: Message) -> None:
        if isinstance(event, AuditorStorm):
            tables.put(STORM, ("level",), event.level)

    def react(self, event: Message) -> Iterable[Message]:
        return ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        raise NotImplementedError

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        return ()


@command(to="gossiper")
class Shout(Message, frozen=True, kw_only=True):
    amount: U32


@network(by="gossiper")
class Whisper(Message, frozen=True, kw_only=True):
    amount: U32


@event(by="gossiper")
class Shouted(Message, frozen=True, kw_only=True):
    amount: U32


@event(by="gossiper")
class Heard(Message, frozen=True, kw_only=True):
    amount: U32


HEARD = Table("heard", key=(U64_KEY,), value=int)


class Gossiper:
    """Tells other nodes what it was told, and notes what they tell."""

    declaration = Declaration(
        name="gossiper",
        description="Whispers over the network",
        consumes=(Shout, Whisper),
        sends=(Whisper,),
        answers=(),
        events=(Shouted, Heard),
        tables=(HEARD,),
    )

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        match message:
            case Shout(amount=amount):
                return Decision(events=[Shouted(amount=amount)])
            case Whisper(amount=amount):
                return Decision(events=[Heard(amount=amount)])
            case _:
                return Decision()

    def evolve(self, tables: Tables, event: Message) -> None:
        if isinstance(event, Heard):
            tables.put(HEARD, (event.amount,), 1)

    def react(self, event: Message) -> Iterable[Message]:
        return [Whisper(amount=event.amount)] if isinstance(event, Shouted) else ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        raise NotImplementedError

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        return ()
