"""What an explanation consists of: a tree of reasons, each with its record, its message, and the signed vote it ends in.

These types are the JSON that `overseer explain --json` prints; fields are only ever added.
"""

from collections.abc import Iterator

import msgspec

__all__ = ["Explanation", "Reason", "SignedVote", "every", "hexed", "short"]

_SHORT_DIGITS = 10


class SignedVote(msgspec.Struct, frozen=True, kw_only=True):
    """A vote with all that it takes to check it: the signed bytes, the key, the signature, in hexadecimal behind 0x.

    `verifies` is what checking it again gave; null when the validator's key, or the candidate's relay parent, is not in the journals.
    """

    validator: int
    kind: str
    session: int
    candidate: str
    signature: str
    key: str = ""
    scheme: str = ""
    payload: str = ""
    verifies: bool | None = None


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, and why.

    `record` is the journal record that says so (node/subsystem:index), `at_ms` its time. That record was made of the message at
    `position` of `stream` ("node" or "net"), of this type, sender and (from outside) command id. `ends` tells why the trail goes no
    further, where it does not. `about` has the full ids of what `what` shortens. `because` are its reasons, `led_to` what came of it.
    """

    what: str
    at_ms: int = 0
    record: str = ""
    message: str = ""
    stream: str = ""
    position: int = 0
    sender: str = ""
    command_id: str = ""
    about: dict[str, str] = {}
    vote: SignedVote | None = None
    ends: str = ""
    because: list["Reason"] = []
    led_to: list["Reason"] = []


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question: `kind` (block, dispute, ...) and the full `id` of what was asked about, at which node."""

    kind: str
    id: str
    node: str
    reasons: list[Reason]
    # What is not in the journals any more, though it belongs to the answer.
    missing: list[str] = []


def every(reasons: list[Reason]) -> Iterator[Reason]:
    """All of the tree, each before what is below it."""
    for reason in reasons:
        yield reason
        yield from every([*reason.because, *reason.led_to])


def hexed(data: bytes) -> str:
    return f"0x{data.hex()}"


def short(data: bytes) -> str:
    """As much of a hash as a person needs; commands take it for the whole."""
    return f"0x{data.hex()[:_SHORT_DIGITS]}"
