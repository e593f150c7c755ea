"""What a kind of election is: the plug-in that the runtime hosts. The runtime knows no kind; a kind knows no site."""

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from messages.elections import ElectionEvent
from messages.message import Message, Rejection
from overseer.subsystem import Check, Context, Decision
from overseer.tables import Table, Tables, View
from subsystems.elections.projection import Projection

__all__ = ["Kind", "KindDeclaration"]


class KindDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """A kind as data; the subsystem's declaration is made of those of all kinds."""

    name: str
    # Commands that concern one election (with a field `election`), and signals, facts or network messages.
    consumes: tuple[type[Message], ...]
    # A subset of `consumes`: commands whose outcome may be awaited.
    requests: tuple[type[Message], ...]
    # Those refused in governance mode.
    held_in_governance: tuple[type[Message], ...] = ()
    # Those that are no ElectionEvent are of no election, and only make rows of the kind's own.
    events: tuple[type[Message], ...]
    # After one of these the election has come to its end.
    terminal: tuple[type[ElectionEvent], ...]
    sends: tuple[type[Message], ...] = ()
    answers: tuple[type[Message], ...] = ()
    timers: tuple[type[Message], ...] = ()
    rejections: tuple[type[Rejection], ...] = ()
    # The first part of each key is the election's hash (see `rows.key_hash`): an election can be copied and dropped as a whole. Of a kind
    # whose events are of no election, as it likes: it is for nodes with one site alone.
    tables: tuple[Table[Any], ...] = ()
    projections: tuple[Projection, ...] = ()
    # Whether the chain makes something due for its elections: `due` is then asked whenever the chain moved.
    follows_chain: bool = False


class Kind(Protocol):
    """Pure functions over the kind's own tables, as a subsystem's. Events are numbered and chained by the runtime."""

    @property
    def declaration(self) -> KindDeclaration: ...

    def decide(self, view: View, message: Message, context: Context, *, sequence: int) -> Decision | Rejection:
        """What follows from a command, timer or signal. `sequence`: the number of the election's next event (0: no election).

        The reply is the runtime's; events of one decision belong to one election.
        """
        ...

    def due(self, view: View, key: str) -> bool:
        """Whether a step follows for this election from what is known of the chain (`subsystems.elections.chain`): `decide` is then
        asked with ChainDue, and decides on one step of bounded work, by what is known then. Cheap.
        """
        ...

    def evolve(self, tables: Tables, event: Message) -> None: ...

    def react(self, event: Message) -> Iterable[Message]: ...

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection: ...

    def checks(self, view: View, message: Message) -> Iterable[Check]: ...
