"""The least that a real subsystem does with a command: look at a row, record an event, write the row."""

from collections.abc import Iterable

from messages.message import Message, Rejection, command, event
from messages.primitives import U64, Hash32
from overseer.subsystem import Check, Context, Decision, Declaration
from overseer.tables import HASH, Table, Tables, View

__all__ = ["BOOK", "SOURCE", "Book", "Ledger", "Source"]

LEDGER = "bench_ledger"
SOURCE = "bench_source"


@command(to=LEDGER)
class Book(Message, frozen=True, kw_only=True):
    """Add `amount` to an account; `note` makes the body 256 bytes."""

    account: Hash32
    amount: U64
    note: bytes


@event(by=LEDGER)
class Booked(Message, frozen=True, kw_only=True):
    account: Hash32
    balance: U64
    note: bytes


# account -> balance
BOOK = Table("book", key=(HASH,), value=int)


class Ledger:
    """Handles `Book`; tells nobody."""

    @property
    def declaration(self) -> Declaration:
        return _LEDGER

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        assert isinstance(message, Book)
        balance = view.get(BOOK, (message.account,)) or 0
        return Decision(events=[Booked(account=message.account, balance=balance + message.amount, note=message.note)])

    def evolve(self, tables: Tables, event: Message) -> None:
        assert isinstance(event, Booked)
        tables.put(BOOK, (event.account,), event.balance)

    def react(self, event: Message) -> Iterable[Message]:
        return ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        raise TypeError("it answers nothing")

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        return ()


class Source(Ledger):
    """Who sends `Book`: only its declaration is used."""

    @property
    def declaration(self) -> Declaration:
        return _SOURCE


_LEDGER = Declaration(
    name=LEDGER,
    description="Books amounts, as a bench",
    consumes=(Book,),
    sends=(),
    answers=(),
    events=(Booked,),
    tables=(BOOK,),
)
_SOURCE = Declaration(name=SOURCE, description="Sends what the bench books", consumes=(), sends=(Book,), answers=(), events=(), tables=())
