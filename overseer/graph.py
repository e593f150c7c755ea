"""The message graph, from declarations alone: who sends what to whom, what is wrong with it, pictures, and consumer filters.

Waiting. A subsystem that must ask another sends a command and goes on; the answer is a command too. Such a loop of commands
is fine and is told as information. What could deadlock is an awaited request: a subsystem that *sends a query* would wait
for the reply inside a handler. So every query among `sends` is an error (`awaits`), and those that wait for each other in a
circle are named as the circle they are (`cycle_of_waits`).
"""

import enum
from collections.abc import Iterable, Sequence

import msgspec

from messages.message import Kind, Message, Spec
from overseer.subsystem import Declaration

__all__ = ["Edge", "Finding", "FindingKind", "Graph", "Senders", "filters", "net_filters", "networked"]

# Owners of messages that no subsystem sends under its own declaration: the overseer's signals, every sender's incarnation.
_OVERSEER = "overseer"


class Edge(msgspec.Struct, frozen=True):
    """`sender` sends `message` and `receiver` consumes it. A network message may join a subsystem with itself (other nodes)."""

    sender: str
    receiver: str
    message: type[Message]

    @property
    def kind(self) -> Kind:
        return self.message.spec.kind


class Senders(msgspec.Struct, frozen=True):
    """Who may send a message: these subsystems, and operators (and whoever acts for them: feeds, `req_<subsystem>`) or not."""

    subsystems: tuple[str, ...]
    operators: bool


class FindingKind(enum.StrEnum):
    """What can be wrong, or worth saying, about a graph."""

    UNSENT = "unsent"
    UNCONSUMED = "unconsumed"
    FORBIDDEN = "forbidden"
    MISDIRECTED = "misdirected"
    NOT_OWNER = "not_owner"
    UNDECLARED = "undeclared"
    AWAITS = "awaits"
    CYCLE_OF_WAITS = "cycle_of_waits"
    CYCLE_OF_COMMANDS = "cycle_of_commands"


class Finding(msgspec.Struct, frozen=True):
    """One finding: the subsystem it is about, what, and where to look. Only information when not `fatal`."""

    kind: FindingKind
    subsystem: str
    text: str
    fatal: bool = True


class Graph(msgspec.Struct, frozen=True):
    """Subsystems and the messages between them, in a fixed order."""

    declarations: tuple[Declaration, ...]
    edges: tuple[Edge, ...]

    @classmethod
    def of(cls, declarations: Iterable[Declaration]) -> "Graph":
        """Raises ValueError when two declarations have one name."""
        nodes = tuple(sorted(declarations, key=lambda declaration: declaration.name))
        names = [node.name for node in nodes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"declared twice: {', '.join(twice)}")
        edges = [
            Edge(sender.name, receiver.name, message)
            for sender in nodes
            for receiver in nodes
            for message in sorted(set(sender.sends) & set(receiver.consumes), key=_key)
        ]
        return cls(nodes, tuple(edges))

    def senders(self, message: type[Message]) -> Senders:
        """Who may send `message`. A restricted command: only those it is restricted to, and only if they declare it."""
        declared = tuple(d.name for d in self.declarations if message in d.sends)
        if message.spec.kind is not Kind.COMMAND:
            return Senders(declared, operators=False)
        for receiver in self.declarations:
            if message in receiver.restricted:
                allowed = receiver.restricted[message]
                return Senders(tuple(name for name in declared if name in allowed), operators=False)
        return Senders(declared, operators=True)

    def findings(self) -> list[Finding]:
        """Everything that is to be checked at start; it must not go on when any is fatal."""
        found: list[Finding] = []
        for node in self.declarations:
            found += _declared_in_itself(node)
            found += self._unsent(node)
            found += self._sent_wrongly(node)
        return [*found, *self._cycles_of_waits(), *self._cycles_of_commands()]

    def _unsent(self, node: Declaration) -> list[Finding]:
        """Consumed, but nobody sends it. Awaited commands come from outside: operators, feeds, endpoints.

        A command whose only permitted senders are no part of this system is told, and no error.
        """
        found: list[Finding] = []
        present = {d.name for d in self.declarations}
        for message in node.consumes:
            if message in node.requests or message.spec.owner == _OVERSEER:
                continue
            if not self.senders(message).subsystems:
                text = f"{node.name} consumes {message.spec.key}, but no subsystem sends it and it is not among its requests"
                absent = message in node.restricted and present.isdisjoint(node.restricted[message])
                found.append(Finding(FindingKind.UNSENT, node.name, text, fatal=not absent))
        return found

    def _sent_wrongly(self, node: Declaration) -> list[Finding]:
        found: list[Finding] = []
        for message in node.sends:
            spec = message.spec
            if spec.kind is not Kind.COMMAND:
                continue
            receiver = next((d for d in self.declarations if d.name == spec.owner), None)
            if receiver is None or message not in receiver.consumes:
                text = f"{node.name} sends {spec.key}, but {spec.owner} does not consume it"
                found.append(Finding(FindingKind.UNCONSUMED, node.name, text))
            elif message in receiver.restricted and node.name not in receiver.restricted[message]:
                allowed = ", ".join(receiver.restricted[message])
                text = f"{node.name} sends {spec.key}, but {receiver.name} takes it from {allowed} alone"
                found.append(Finding(FindingKind.FORBIDDEN, node.name, text))
        return found

    def _cycles_of_waits(self) -> list[Finding]:
        waits = {
            node.name: sorted({m.spec.owner for m in node.sends if m.spec.kind is Kind.QUERY} - {node.name}) for node in self.declarations
        }
        return [
            Finding(FindingKind.CYCLE_OF_WAITS, cycle[0], f"these wait for each other: {' -> '.join(cycle)}") for cycle in _cycles(waits)
        ]

    def _cycles_of_commands(self) -> list[Finding]:
        """Circles of commands that are not a question with its answer (`x` and `x_answer`): no error, but good to know."""
        commands = [edge for edge in self.edges if edge.kind is Kind.COMMAND and edge.sender != edge.receiver]
        asked = {(edge.sender, edge.receiver, edge.message.spec.name) for edge in commands}
        steps: dict[str, list[str]] = {node.name: [] for node in self.declarations}
        for edge in commands:
            question = edge.message.spec.name.removesuffix("_answer")
            is_answer = question != edge.message.spec.name and (edge.receiver, edge.sender, question) in asked
            if not is_answer and edge.receiver not in steps[edge.sender]:
                steps[edge.sender].append(edge.receiver)
        return [
            Finding(FindingKind.CYCLE_OF_COMMANDS, cycle[0], f"commands go round: {' -> '.join(cycle)}", fatal=False)
            for cycle in _cycles(steps)
        ]

    def mermaid(self) -> str:
        """A Mermaid flowchart: commands as full lines, facts, signals and network messages as dotted ones."""
        lines = ["flowchart LR", *(f'    {node.name}["{node.name}"]' for node in self.declarations)]
        for (sender, receiver, solid), names in self._bundles():
            arrow = "-->" if solid else "-.->"
            lines.append(f'    {sender} {arrow}|"{"<br/>".join(names)}"| {receiver}')
        return "\n".join(lines) + "\n"

    def dot(self) -> str:
        """The same for Graphviz."""
        lines = ["digraph messages {", "    rankdir=LR;", "    node [shape=box];"]
        lines += [f'    "{node.name}";' for node in self.declarations]
        for (sender, receiver, solid), names in self._bundles():
            style = "" if solid else ", style=dashed"
            label = "\\n".join(names)
            lines.append(f'    "{sender}" -> "{receiver}" [label="{label}"{style}];')
        return "\n".join([*lines, "}"]) + "\n"

    def _bundles(self) -> list[tuple[tuple[str, str, bool], list[str]]]:
        """The edges, one bundle for each (sender, receiver, whether commands)."""
        bundles: dict[tuple[str, str, bool], list[str]] = {}
        for edge in self.edges:
            bundles.setdefault((edge.sender, edge.receiver, edge.kind is Kind.COMMAND), []).append(edge.message.spec.name)
        return sorted((key, sorted(names)) for key, names in bundles.items())


def _key(message: type[Message]) -> str:
    return message.spec.key


def _declared_in_itself(node: Declaration) -> list[Finding]:
    """What can be seen wrong in one declaration."""
    found: list[Finding] = []

    def add(kind: FindingKind, text: str) -> None:
        found.append(Finding(kind, node.name, f"{node.name} {text}"))

    for message in (*node.requests, *node.restricted):
        if message not in node.consumes:
            add(FindingKind.UNDECLARED, f"names {message.spec.key} among its requests or restrictions, but does not consume it")
    for message in node.requests:
        if message in node.restricted:
            add(FindingKind.FORBIDDEN, f"lets outside callers await {message.spec.key} and restricts it to subsystems")
    for message in node.consumes:
        if message.spec.kind is Kind.COMMAND and message.spec.owner != node.name:
            add(FindingKind.MISDIRECTED, f"consumes {message.spec.key}, which is addressed to {message.spec.owner}")
    for message in node.answers:
        if message.spec.kind is not Kind.QUERY or message.spec.owner != node.name:
            add(FindingKind.MISDIRECTED, f"answers {message.spec.key}, which is no query of its own")
    for message in node.sends:
        spec = message.spec
        if spec.kind is Kind.QUERY:
            add(FindingKind.AWAITS, f"sends the query {spec.key}: a handler never waits; ask by a command, be answered by one")
        elif spec.kind not in (Kind.COMMAND, Kind.FACT, Kind.SIGNAL, Kind.NETWORK):
            add(FindingKind.UNDECLARED, f"sends {spec.key}, which never travels")
        elif spec.kind is not Kind.COMMAND and spec.owner != node.name:
            add(FindingKind.NOT_OWNER, f"sends {spec.key}, which {spec.owner} alone may send")
    return found


def _cycles(steps: dict[str, list[str]]) -> list[list[str]]:
    """One shortest cycle through each group of nodes that reach each other, as `[a, b, a]`; in a fixed order."""
    found: list[list[str]] = []
    covered: set[str] = set()
    for start in sorted(steps):
        if start in covered:
            continue
        path = _shortest_way_back(steps, start)
        if path:
            found.append(path)
            covered.update(path)
    return found


def _shortest_way_back(steps: dict[str, list[str]], start: str) -> list[str]:
    """Breadth first from `start` to itself; empty when there is no way."""
    frontier: list[list[str]] = [[start]]
    seen: set[str] = set()
    while frontier:
        longer: list[list[str]] = []
        for path in frontier:
            for step in sorted(steps.get(path[-1], ())):
                if step == start:
                    return [*path, start]
                if step not in seen:
                    seen.add(step)
                    longer.append([*path, step])
        frontier = longer
    return []


# ------------------------------------------------------------------------------------------------ filters


def _node_filter(spec: Spec, node: str) -> str | None:
    match spec.kind:
        case Kind.COMMAND:
            return f"overseer.{node}.*.cmd.{spec.owner}.{spec.name}"
        case Kind.FACT if spec.owner == _OVERSEER:
            return f"overseer.{node}.*.evt.{spec.name}"
        case Kind.FACT | Kind.SIGNAL:
            return f"overseer.{node}.{spec.owner}.{spec.kind.value}.{spec.name}"
        case Kind.PARKED:
            return f"overseer.{node}.*.rejected"
        case _:
            return None


def filters(declaration: Declaration, node: str) -> list[str]:
    """The subjects of the node's stream that the subsystem's consumer takes: sorted, each once, none overlapping another.

    Beside what is declared: every sender's `incarnation_started` (watermarks need it), and the overseer's `conclude`.
    """
    wanted = {f"overseer.{node}.*.evt.incarnation_started", f"overseer.{node}.{_OVERSEER}.sig.conclude"}
    wanted.update(subject for message in declaration.consumes if (subject := _node_filter(message.spec, node)))
    return sorted(wanted)


def networked(declaration: Declaration) -> bool:
    """Whether the subsystem has to do with the network's stream: takes anything from it, or tells it anything."""
    return any(message.spec.kind is Kind.NETWORK for message in (*declaration.consumes, *declaration.sends))


def net_filters(declaration: Declaration) -> list[str]:
    """The subjects of the network's stream that the subsystem takes, from every node; empty when it takes none."""
    network: Sequence[Spec] = [message.spec for message in declaration.consumes if message.spec.kind is Kind.NETWORK]
    return sorted({f"overseer.net.*.{spec.owner}.{spec.name}" for spec in network})
