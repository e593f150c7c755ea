"""What is the same for all messages in the AsyncAPI document: headers, parameters of subjects, who is let in (docs/protocol.md)."""

from typing import Any

from messages.envelope_signing import HEADER_SIGNATURE
from messages.message import Kind, Spec
from messages.overseer import IncarnationStarted, Parked
from messages.subjects import (
    CONTENT_CBOR,
    CONTENT_JSON,
    HEADER_CALLER,
    HEADER_CAUSE,
    HEADER_COMMAND_ID,
    HEADER_CONTENT_TYPE,
    HEADER_CORRELATION,
    HEADER_ID,
    HEADER_SCHEMA,
    HEADER_TRACEPARENT,
)
from overseer.nats.exchange import HEADER_ERROR, HEADER_ERROR_CODE

__all__ = ["PARAMETERS", "SCHEMAS", "SECURITY", "of"]

_TOKEN = "Lower snake case, at most 64 characters"


def _text(words: str, **more: object) -> dict[str, Any]:
    return {"type": "string", "description": words, **more}


_BODY = {
    HEADER_SCHEMA: _text("Version of the body's type; absent: the current one.", pattern="^[0-9]{1,5}$"),
    HEADER_CONTENT_TYPE: _text("Absent: CBOR.", enum=[CONTENT_CBOR, CONTENT_JSON]),
}
_TRACE = {HEADER_TRACEPARENT: _text("W3C trace context.", pattern="^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")}
_CORRELATION = {HEADER_CORRELATION: _text("The same for everything that follows from one first message.", maxLength=200)}
_COMMAND_ID = {HEADER_COMMAND_ID: _text("The caller's own id: a retry under it has one effect and one outcome.", maxLength=128)}
_SUBSYSTEM = {
    HEADER_ID: _text("`<sender> <incarnation> <journal record> <place>`", pattern="^[a-z0-9_]+ [0-9a-f]+ [0-9]+ [0-9]+$"),
    HEADER_CAUSE: _text("`<stream> <sequence>` of the input it follows from, or `timer`."),
    **_CORRELATION,
    **_BODY,
    **_TRACE,
}


def _headers(words: str, fields: dict[str, Any], *required: str) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "description": words, "properties": fields}
    return {**made, "required": list(required)} if required else made


# Others may be there: the server's, and those of clients.
SCHEMAS: dict[str, Any] = {
    "headers.told": _headers("What a subsystem sends.", _SUBSYSTEM, HEADER_ID, HEADER_CAUSE, HEADER_CORRELATION),
    "headers.command": _headers(
        "What a subsystem sends, or what comes from outside: that carries no id but, perhaps, a command id.",
        {**_SUBSYSTEM, **_COMMAND_ID, HEADER_CALLER: _text("Account of whoever awaits the outcome, set by the endpoint.")},
    ),
    "headers.signal": _headers("What the overseer sends.", {**_BODY, **_TRACE}),
    "headers.network": _headers(
        "What goes between nodes.",
        {**_SUBSYSTEM, HEADER_SIGNATURE: _text("Ed25519 of the node's identity over the envelope.", pattern="^[0-9a-f]{128}$")},
        HEADER_ID,
        HEADER_SIGNATURE,
    ),
    "headers.request": _headers("What a caller sends.", {**_COMMAND_ID, **_CORRELATION, **_BODY, **_TRACE}),
    "headers.reply": _headers(
        "What is answered; with an error the body is a rejection, or the outcome that tells it.",
        {
            HEADER_CONTENT_TYPE: _BODY[HEADER_CONTENT_TYPE],
            **_COMMAND_ID,
            HEADER_ERROR_CODE: _text("Only of an error: 400, 409, 429 or 504."),
            HEADER_ERROR: _text("Only of an error: its code in words."),
        },
    ),
    "headers.mail": _headers("Between sites nothing is told but the body.", {}),
}

PARAMETERS: dict[str, Any] = {
    "node": {"description": f"Name of the node. {_TOKEN}; not `net`, not `log`.", "default": "node"},
    "site": {"description": "The site that it is for (`elections.sites`).", "examples": ["dc1", "dc2"]},
    "election": {"description": "Key of the election. Lower case letters, digits, `_` and `-`, at most 64."},
    "message": {"description": "Name of the command or query."},
}

SECURITY: dict[str, Any] = {
    "nkey": {
        "type": "asymmetricEncryption",
        "description": "An nkey (Ed25519) for each user of the bus, in `keys/` of the node's folder. Its account fixes the subjects.",
    }
}


def of(name: str, spec: Spec) -> str:
    """Which headers a message has."""
    match spec.kind:
        case Kind.QUERY:
            return "headers.request"
        case Kind.REPLY | Kind.REJECTION:
            return "headers.reply"
        case Kind.NETWORK:
            return "headers.network"
        case Kind.PAIR:
            return "headers.mail"
        case Kind.COMMAND:
            return "headers.request" if name != spec.key else "headers.command"
        case _:
            told = spec.owner != "overseer" or spec.body in (IncarnationStarted, Parked)
            return "headers.told" if told else "headers.signal"
