"""Every query and every awaited command, as one types it with `nats req`: from the declarations, with the fields that must be given."""

import enum
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from msgspec import inspect

from messages.message import Spec
from messages.subjects import request_subject
from overseer.node.catalogue import SECTIONS, build_subsystems
from overseer.settings import load_config
from overseer.subsystem import Declaration

__all__ = ["Asked", "asked", "declarations", "lines"]

NODE = "node"
# What a reader knows from the guides, instead of a "string".
KNOWN: dict[str, object] = {
    "election": "mayor-2026",
    "projection": "ballots",
    "title": "Mayor",
    "choices": ["Ada", "Grace"],
    "choice": "Ada",
}
# Nobody types these.
MADE = {"register_vote": '"$(overseer make bundle --valid 0-6 --invalid 7)"'}

# What stands for a byte string of at least and at most so many bytes.
Filling = Callable[[int, int | None], str]


class Asked(NamedTuple):
    """One endpoint: its message, its subject, and the body as a word of the shell."""

    spec: Spec
    subject: str
    word: str

    @property
    def line(self) -> str:
        return f"nats req {self.subject} {self.word}"


@cache
def declarations() -> tuple[Declaration, ...]:
    loaded = load_config(environ={"OVERSEER_CONFIG": ""}, sections=SECTIONS)
    return tuple(subsystem.declaration for subsystem in build_subsystems(loaded).values())


def asked(declaration: Declaration, filling: Filling) -> Iterator[Asked]:
    """All endpoints of a subsystem, queries first."""
    for query in declaration.answers:
        subject = f"overseer.{NODE}.{declaration.name}.qry.{query.spec.name}"
        yield Asked(query.spec, subject, _word(query.spec, filling))
    for command in declaration.requests:
        yield Asked(command.spec, request_subject(NODE, command.spec), _word(command.spec, filling))


def lines() -> str:
    """As the page has them, a paragraph for each subsystem."""
    paragraphs = ("".join(f"{each.line}\n" for each in asked(declaration, lambda _low, _high: "0x...")) for declaration in declarations())
    return "\n".join(paragraphs)


def _word(spec: Spec, filling: Filling) -> str:
    return MADE.get(spec.name) or f"'{json.dumps(_value(inspect.type_info(spec.body), filling))}'"


def _value(kind: inspect.Type, filling: Filling) -> object:
    match kind:
        case inspect.Metadata(type=inner):
            return _value(inner, filling)
        case inspect.IntType():
            # Nothing is of session, block or epoch 0.
            return 1
        case inspect.BytesType(min_length=low, max_length=high):
            return filling(low or 0, high)
        case inspect.EnumType(cls=cls):
            assert issubclass(cls, enum.Enum)
            return next(iter(cls)).value
        case inspect.ListType():
            return []
        case inspect.StructType(fields=fields, array_like=False):
            return {
                field.encode_name: KNOWN[field.encode_name] if field.encode_name in KNOWN else _value(field.type, filling)
                for field in fields
                if field.required
            }
        case _:
            raise TypeError(f"no example for {kind!r}: add it here, or to KNOWN or MADE")
