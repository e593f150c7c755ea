"""The message graph as an AsyncAPI 3.0 document, generated from declarations and contract: subjects, who sends and who takes, payloads.

    overseer contract --asyncapi > docs/asyncapi.json

Channels are subjects, with `{node}` and `{sender}` where they vary. Operations are those of the subsystems: what each sends and receives;
a query, and a command whose outcome is awaited, is received with a reply. Payloads are JSON Schemas of the JSON form; `x-cddl` names
the rule that the CBOR form keeps (`overseer contract --cddl`). Events and timers never travel, and are not here.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from messages.cddl import first_words, ranked
from messages.contract import own
from messages.json_schema import definitions
from messages.message import Kind, Message, Spec
from messages.overseer import Busy, CommandOutcome, IncarnationStarted, InvalidRequest, Parked, Timeout
from messages.signals import Conclude
from messages.subjects import CONTENT_CBOR, HEADER_CORRELATION, build, request_subject
from overseer import asyncapi_headers as headers
from overseer.graph import Graph
from overseer.release import RELEASE
from overseer.sites.mailroom import asked_by_mail
from overseer.subsystem import Declaration

__all__ = ["document"]

_OVERSEER, _ELECTIONS = "overseer", "elections"
# The queue group of the micro services: one of several processes answers.
_QUEUE = {"nats": {"queue": "q", "bindingVersion": "0.1.0"}}
_SCHEMAS = "#/components/schemas/"
# What every endpoint may refuse with, besides the subsystem's own rejections.
_REFUSALS: tuple[type[Message], ...] = (InvalidRequest, Busy)
_ABOUT = (
    "Independent processes that talk by typed CBOR messages on NATS. Bodies are deterministically encoded CBOR maps; JSON is taken on "
    'requests, and with the header `Content-Type: application/json` on commands. In JSON, byte strings are "0x" and hexadecimal digits. '
    "docs/protocol.md has headers, limits and rules; `x-cddl` of a message names its rule in the CDDL of the contract."
)

Json = dict[str, Any]


def document(declarations: Iterable[Declaration]) -> Json:
    """The whole document, of these subsystems: plain data, in a fixed order."""
    graph = Graph.of(declarations)
    made = _Document(graph)
    for node in graph.declarations:
        made.subsystem(node)
    made.overseer()
    made.between_nodes()
    made.sites()
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "overseer", "version": RELEASE, "description": _ABOUT, "license": {"name": "Apache-2.0"}},
        "defaultContentType": CONTENT_CBOR,
        "servers": {"nats": _server()},
        "channels": dict(sorted(made.channels.items())),
        "operations": dict(sorted(made.operations.items())),
        "components": made.components(),
    }


def _server() -> Json:
    return {
        "host": "{host}",
        "protocol": "nats",
        "description": "The node's NATS server with JetStream: the embedded one, or `nats.url`. Beyond one machine TLS 1.3 alone.",
        "variables": {"host": {"default": "127.0.0.1:4222", "description": "Host and port; `overseer status` tells them."}},
        "security": [{"$ref": "#/components/securitySchemes/nkey"}],
    }


class _Document:
    """Channels and operations as they are found, and the messages that these use."""

    def __init__(self, graph: Graph) -> None:
        self.channels: Json = {}
        self.operations: Json = {}
        self._graph = graph
        self._names = [node.name for node in graph.declarations]
        self._used: dict[str, Spec] = {}

    # ---------------------------------------------------------------------------------------- who does what

    def subsystem(self, node: Declaration) -> None:
        """What one subsystem sends, takes and answers."""
        for message in (*node.sends, IncarnationStarted, Parked):
            self._operation(node.name, "send", message.spec)
        for message in (*node.consumes, IncarnationStarted, Conclude):
            self._operation(node.name, "receive", message.spec)
        for message in node.answers:
            assert message.spec.reply is not None
            self._answered(node, message, message.spec.key, build("{node}", "", message.spec), [message.spec.reply, *_REFUSALS])
        for message in node.requests:
            key = f"{node.name}.req.{message.spec.name}"
            self._answered(node, message, key, request_subject("{node}", message.spec), [CommandOutcome, *_REFUSALS, Timeout])

    def overseer(self) -> None:
        """What the overseer itself sends."""
        self._operation(_OVERSEER, "send", Conclude.spec)

    def between_nodes(self) -> None:
        """What nodes tell each other that no subsystem declares: the chain that their feeds make together."""
        for spec in own():
            if spec.kind is Kind.NETWORK and spec.owner not in self._names:
                self._operation(spec.owner, "send", spec)
                self._operation(spec.owner, "receive", spec)

    def sites(self) -> None:
        """Where the elections are on several sites: what these tell each other, and what people ask any of them."""
        node = next((node for node in self._graph.declarations if node.name == _ELECTIONS), None)
        if node is None:
            return
        told = [spec for spec in own() if spec.owner == _ELECTIONS]
        for spec in told:
            if spec.kind is Kind.PAIR:
                self._operation(spec.owner, "send", spec)
                self._operation(spec.owner, "receive", spec)
        by_mail = asked_by_mail(node)
        asked = [spec for spec in told if spec.body in by_mail]
        elsewhere = [message.spec.reply for message in (*node.requests, *node.answers) if message not in by_mail]
        replies = [spec for spec in told if spec.kind in (Kind.REPLY, Kind.REJECTION) and spec.body not in elsewhere]
        refusals = [message.spec for message in (CommandOutcome, *_REFUSALS, Timeout)]
        subject = f"overseer.{{node}}.{_ELECTIONS}_{{site}}.mail.{{election}}.{{message}}"
        self._asked(_ELECTIONS, f"{_ELECTIONS}.mail", subject, asked, [*replies, *refusals], ["node", "site", "election", "message"])

    def _operation(self, name: str, action: str, spec: Spec) -> None:
        channel = self._channel(spec)
        told: Json = {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [{"$ref": f"#/channels/{channel}/messages/{_message_name(spec)}"}],
            "tags": [{"name": name}],
        }
        self.operations[f"{name}.{action}.{spec.key}"] = told

    def _answered(self, node: Declaration, message: type[Message], key: str, subject: str, replies: Sequence[type[Message]]) -> None:
        every = {reply.spec.key: reply.spec for reply in (*replies, *node.rejections)}
        self._asked(node.name, key, subject, [message.spec], list(every.values()), ["node"])

    def _asked(self, name: str, key: str, subject: str, asked: Sequence[Spec], replies: Sequence[Spec], parameters: Sequence[str]) -> None:
        """Requests with their replies: one channel for each way."""
        self._put(
            key, subject, asked, parameters, f"Asked of {name}: {_words(asked[0]) if len(asked) == 1 else 'any of these.'}", at="request"
        )
        # An inbox of the caller's, as NATS has it.
        self._put(f"{key}.reply", None, replies, [], f"What {name} answers there.", at="reply")
        self.operations[f"{name}.answer.{key}"] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": [{"$ref": f"#/channels/{key}/messages/{_message_name(spec, 'request')}"} for spec in asked],
            "reply": {"channel": {"$ref": f"#/channels/{key}.reply"}},
            "tags": [{"name": name}],
            "bindings": _QUEUE,
        }

    # ---------------------------------------------------------------------------------------- where it goes

    def _channel(self, spec: Spec) -> str:
        """The subject of a message that is no request: its key."""
        if spec.kind is Kind.PAIR:
            address = f"overseer.{{node}}.{spec.owner}_{{site}}.pair.{{election}}.{spec.name}"
            parameters = ["node", "site", "election"]
        else:
            sender = "{sender}" if spec.kind in (Kind.COMMAND, Kind.PARKED) or spec.body is IncarnationStarted else spec.owner
            address = build("{node}", sender, spec)
            parameters = ["node", "sender"] if sender == "{sender}" else ["node"]
        self._put(spec.key, address, [spec], parameters, _words(spec), at="stream" if spec.kind is not Kind.PAIR else "request")
        return spec.key

    def _put(self, key: str, address: str | None, specs: Sequence[Spec], parameters: Sequence[str], words: str, *, at: str) -> None:
        for spec in specs:
            self._used[_message_name(spec, at)] = spec
        channel: Json = {
            "address": address,
            "description": words,
            "messages": {_message_name(spec, at): {"$ref": f"#/components/messages/{_message_name(spec, at)}"} for spec in specs},
            "servers": [{"$ref": "#/servers/nats"}],
        }
        if parameters:
            channel["parameters"] = {name: self._parameter(name, specs[0]) for name in parameters}
        self.channels[key] = channel

    def _parameter(self, name: str, spec: Spec) -> Json:
        if name != "sender":
            return {"$ref": f"#/components/parameters/{name}"}
        if spec.kind is not Kind.COMMAND:
            return {"description": "The subsystem that says it.", "enum": self._names}
        allowed = self._graph.senders(spec.body)
        if not allowed.operators:
            return {"description": "Subsystems alone.", "enum": list(allowed.subsystems)}
        words = f"`op_<name>` of a person or feed, `req_{spec.owner}` of an endpoint"
        return {"description": f"{', or '.join([words, *allowed.subsystems])}."}

    # ---------------------------------------------------------------------------------------- what it is

    def components(self) -> Json:
        # Of an accepted command the outcome holds the reply's body.
        within = [spec.reply.spec for spec in self._used.values() if spec.reply is not None]
        specs = sorted({spec.key: spec for spec in (*self._used.values(), *within)}.values(), key=lambda spec: (spec.owner, *ranked(spec)))
        return {
            "messages": {name: _message(name, spec) for name, spec in sorted(self._used.items())},
            "schemas": {**definitions(specs, _SCHEMAS), **headers.SCHEMAS},
            "parameters": headers.PARAMETERS,
            "securitySchemes": headers.SECURITY,
        }


def _words(spec: Spec) -> str:
    """What it says of itself, on one line."""
    return " ".join(first_words(spec.body).split()) or spec.name.replace("_", " ")


def _message_name(spec: Spec, at: str = "stream") -> str:
    """A query or reply is met in one place alone; a command in the stream and as a request, with other headers."""
    return f"{spec.key}.request" if at == "request" and spec.kind is Kind.COMMAND else spec.key


def _message(name: str, spec: Spec) -> Json:
    made: Json = {
        "name": name,
        "title": spec.name,
        "summary": _words(spec),
        "contentType": CONTENT_CBOR,
        "headers": {"$ref": _SCHEMAS + headers.of(name, spec)},
        "payload": {"$ref": _SCHEMAS + spec.key},
        "tags": [{"name": spec.owner}, {"name": spec.kind.name.lower()}],
        "x-cddl": spec.key,
        "x-schema-version": spec.version,
    }
    if spec.kind is Kind.COMMAND and spec.reply is not None:
        # The body in the field `reply` of an accepted outcome.
        made["x-outcome-reply"] = {"$ref": _SCHEMAS + spec.reply.spec.key}
    if spec.kind in (Kind.COMMAND, Kind.FACT, Kind.SIGNAL, Kind.NETWORK, Kind.PARKED):
        made["correlationId"] = {"location": f"$message.header#/{HEADER_CORRELATION}"}
    return made
