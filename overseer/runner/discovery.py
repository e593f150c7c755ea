"""What discovery (`nats micro info`) shows of endpoints: their messages by name and version, and their schemas in CDDL."""

from collections.abc import Iterable
from functools import lru_cache

from messages import cddl
from messages.message import Kind, Message, Spec
from messages.overseer import CommandOutcome

__all__ = ["endpoint_metadata", "mail_metadata"]


def endpoint_metadata(body: type[Message]) -> dict[str, str]:
    """Of the endpoint of a query, or of an awaited command."""
    return dict(_told(body))


def mail_metadata(bodies: Iterable[type[Message]]) -> dict[str, str]:
    """Of one endpoint that takes them all: under each one's name what is asked, and what is answered."""
    shown: dict[str, str] = {}
    for body in bodies:
        name, told = body.spec.name, _told(body)
        shown[f"{name}_request"] = told["request_schema"]
        shown |= {f"{name}_{word}": told[f"{word}_schema"] for word in ("response", "reply") if word in told}
    return shown


@lru_cache(maxsize=1024)
def _told(body: type[Message]) -> dict[str, str]:
    """Worked out once: a subsystem that is started again has the same endpoints."""
    spec = body.spec
    if spec.kind is not Kind.COMMAND:
        return {**_named("request", spec), **(_named("response", spec.reply.spec) if spec.reply is not None else {})}
    # A command's answer is its outcome; what the contract says it replies with is within.
    reply = _named("reply", spec.reply.spec) if spec.reply is not None else {}
    return {**_named("request", spec), **_named("response", CommandOutcome.spec), **reply}


def _named(word: str, spec: Spec) -> dict[str, str]:
    return {word: spec.key, f"{word}_version": str(spec.version), f"{word}_schema": cddl.one_line(spec)}
