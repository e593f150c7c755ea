"""Requests as people and programs send them, CBOR or JSON, and the responses to them."""

import json

from messages.codec import CodecError, decode, decode_value, encode
from messages.message import CATALOG, Kind, Message, Rejection, Spec
from messages.overseer import Busy, CommandOutcome, OutcomeStatus, Timeout
from messages.subjects import CONTENT_CBOR, CONTENT_JSON, HEADER_COMMAND_ID, HEADER_CONTENT_TYPE
from messages.text import from_json, to_json
from overseer.ports.bus import Request, Response
from overseer.runner.intake import COMMAND_ID_CHARS_MAX

__all__ = ["outcome_plain", "outcome_response", "read_command_id", "read_request", "refuse", "respond", "wants_json"]

# The major type that a CBOR body begins with.
_CBOR_MAP = 5


def wants_json(request: Request) -> bool:
    content = request.headers.get(HEADER_CONTENT_TYPE)
    if content is None:
        # What is no CBOR map was typed into `nats req`: JSON text, nothing at all, or a mistake, whose answer is to be read.
        return not request.body or request.body[0] >> 5 != _CBOR_MAP
    return content == CONTENT_JSON


def read_request(spec: Spec, request: Request) -> Message:
    if wants_json(request):
        return from_json(spec, request.body or b"{}")
    return decode(spec, request.body)


def read_command_id(request: Request) -> str:
    """The caller's own id of a command; "" without one. Raises CodecError."""
    found = request.headers.get(HEADER_COMMAND_ID, "")
    if len(found) > COMMAND_ID_CHARS_MAX or not found.isprintable() or found != found.strip():
        raise CodecError("bad_command_id", f"at most {COMMAND_ID_CHARS_MAX} printable characters")
    return found


def content_headers(as_json: bool) -> dict[str, str]:
    return {HEADER_CONTENT_TYPE: CONTENT_JSON if as_json else CONTENT_CBOR}


def respond(message: Message, as_json: bool) -> Response:
    return Response(to_json(message) if as_json else encode(message), content_headers(as_json))


def refuse(rejection: Rejection, as_json: bool) -> Response:
    code = "429" if isinstance(rejection, Busy) else "504" if isinstance(rejection, Timeout) else "400"
    response = respond(rejection, as_json)
    return Response(response.body, response.headers, (code, rejection.code))


def outcome_response(spec: Spec, data: bytes, as_json: bool, command_id: str) -> Response:
    """The outcome as the caller wants it: CBOR as recorded, or JSON with the reply or refusal spelled out."""
    outcome = decode_value(CommandOutcome, data)
    error = None if outcome.status is OutcomeStatus.ACCEPTED else ("409", outcome.code or outcome.status.value)
    headers = {**content_headers(as_json), HEADER_COMMAND_ID: command_id}
    return Response(json.dumps(outcome_plain(spec, outcome)).encode() if as_json else data, headers, error)


def outcome_plain(spec: Spec, outcome: CommandOutcome) -> dict[str, object]:
    """An outcome for people and JSON: the reply or the refusal decoded."""
    shown: dict[str, object] = {"status": outcome.status.value, "sequence": outcome.sequence}
    if outcome.reply is not None and spec.reply is not None:
        shown["reply"] = json.loads(to_json(decode(spec.reply.spec, outcome.reply)))
    if outcome.code is not None:
        shown["code"] = outcome.code
        shown["retriable"] = outcome.retriable
        refusal = CATALOG.find(Kind.REJECTION, spec.owner, outcome.code)
        if outcome.detail is not None and refusal is not None:
            shown["detail"] = json.loads(to_json(decode(refusal, outcome.detail)))
        elif outcome.detail is not None:
            shown["detail"] = outcome.detail.decode(errors="replace")
    return shown
