"""The contract as CDDL (RFC 8610), generated from the types; kept stable by a golden file.

    python -m messages.cddl > tests/golden/messages.cddl

Maps are bodies (keys in the order of the fields; on the wire they are sorted), rows of bulk lists are arrays, enums are
choices of text. A field with a default is optional to a reader; we always write it. Rules are named after the message's key,
`<owner>.<kind>.<name>`, and shared types after their class.
"""

import enum
import inspect as python_inspect
import re
import sys
from collections.abc import Iterable, Iterator

from msgspec import inspect

from messages.contract import own
from messages.message import Kind, Spec

__all__ = ["Names", "classes", "document", "first_words", "one_line", "ranked"]

_HEAD = """\
; The messages of overseer, generated from messages/*.py. Do not edit: python -m messages.cddl > tests/golden/messages.cddl
; Bodies are deterministically encoded CBOR (RFC 8949 section 4.2), of 768 KiB at most; no tags, no floats.
"""

# The order of a subsystem's messages in the document.
_ORDER = (
    Kind.COMMAND,
    Kind.QUERY,
    Kind.REPLY,
    Kind.REJECTION,
    Kind.FACT,
    Kind.SIGNAL,
    Kind.NETWORK,
    Kind.PAIR,
    Kind.PARKED,
    Kind.EVENT,
    Kind.TIMER,
)

# Bounds that have a name of their own.
_INTEGERS = {2**8 - 1: "u8", 2**16 - 1: "u16", 2**32 - 1: "u32", None: "u64"}
_BYTES = {16: "bytes16", 32: "bytes32", 64: "bytes64"}
_PRELUDE = """\
u8 = 0..255
u16 = 0..65535
u32 = 0..4294967295
u64 = 0..18446744073709551615
bytes16 = bstr .size 16
bytes32 = bstr .size 32
bytes64 = bstr .size 64
"""


def document() -> str:
    """The CDDL of every message in the catalog, grouped by owner, shared types first."""
    specs = own()
    names = Names(specs)
    parts = [_HEAD, _PRELUDE, _section("shared types"), *(_shared(kind, names) for kind in names.shared())]
    for owner in sorted({spec.owner for spec in specs}):
        parts.append(_section(owner))
        parts += [_message(spec, names) for spec in sorted((s for s in specs if s.owner == owner), key=ranked)]
    return "\n".join(parts)


def one_line(spec: Spec) -> str:
    """The CDDL of one message, and then of the types it is made of, on one line: what an endpoint shows of its schema."""
    names = Names([spec])
    lines = "\n".join([_message(spec, names), *(_shared(kind, names) for kind in names.shared())]).splitlines()
    text = " ".join(line.strip() for line in lines if line and not line.startswith(";"))
    return text.replace(", }", " }").replace(", ]", " ]")


def ranked(spec: Spec) -> tuple[int, str]:
    """Its place among its owner's messages: by kind, then by name."""
    return _ORDER.index(spec.kind), spec.name


def _section(title: str) -> str:
    return f"; {'-' * 100} {title}\n"


class Names:
    """The rule names of all types that messages are made of: a class's snake_case, with its module where that is not unique."""

    def __init__(self, specs: Iterable[Spec]) -> None:
        self._rules: dict[type, str] = {spec.body: spec.key for spec in specs}
        found: dict[type, None] = {}
        for spec in specs:
            for kind in classes(spec.body):
                if kind not in self._rules:
                    found[kind] = None
        self._shared = sorted(found, key=lambda kind: (_snake(kind), kind.__module__))
        snakes = [_snake(kind) for kind in self._shared]
        for kind, snake in zip(self._shared, snakes, strict=True):
            module = kind.__module__.rpartition(".")[2]
            self._rules[kind] = snake if snakes.count(snake) == 1 else f"{module}.{snake}"

    def shared(self) -> list[type]:
        return self._shared

    def of(self, kind: type) -> str:
        return self._rules[kind]


def _snake(kind: type) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.__name__).lower()


def classes(body: type) -> Iterator[type]:
    """Every struct and enum that `body` is made of."""
    seen: set[type] = set()
    stack: list[inspect.Type] = [inspect.type_info(body)]
    while stack:
        match stack.pop():
            case inspect.Metadata(type=inner):
                stack.append(inner)
            case inspect.UnionType(types=members):
                stack += members
            case inspect.ListType(item_type=item):
                stack.append(item)
            case inspect.DictType(value_type=item):
                stack.append(item)
            case inspect.EnumType(cls=cls):
                yield cls
            case inspect.StructType(cls=cls, fields=fields):
                if cls not in seen:
                    seen.add(cls)
                    yield cls
                    stack += [field.type for field in fields]
            case _:
                pass


def first_words(kind: type) -> str:
    """The first paragraph of the docstring, if it has one of its own; its lines as they are."""
    if issubclass(kind, enum.Enum) and kind.__doc__ == enum.StrEnum.__doc__:
        return ""
    return python_inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]


def _comment(kind: type) -> str:
    return "".join(f"; {line}\n" for line in first_words(kind).splitlines())


def _shared(kind: type[object], names: Names) -> str:
    if issubclass(kind, enum.Enum):
        choices = " / ".join(f'"{member.value}"' for member in kind)
        return f"{_comment(kind)}{names.of(kind)} = {choices}\n"
    return f"{_comment(kind)}{names.of(kind)} = {_struct(kind, names)}\n"


def _message(spec: Spec, names: Names) -> str:
    notes = [f"version {spec.version}"] if spec.version > 1 else []
    if spec.reply is not None:
        notes.append(f"replied by {spec.reply.spec.key}")
    noted = f"; {'; '.join(notes)}\n" if notes else ""
    return f"{_comment(spec.body)}{noted}{spec.key} = {_struct(spec.body, names)}\n"


def _struct(kind: type, names: Names) -> str:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    opening, closing = ("[", "]") if info.array_like else ("{", "}")
    if not info.fields:
        return f"{opening}{closing}"
    lines = [_field(field, info.array_like, names) for field in info.fields]
    return "\n".join([opening, *(f"  {line}," for line in lines), closing])


def _field(field: inspect.Field, in_row: bool, names: Names) -> str:
    optional = "" if field.required else "? "
    name = field.encode_name if in_row else f'"{field.encode_name}"'
    return f"{optional}{name}: {_type(field.type, names)}"


def _type(kind: inspect.Type, names: Names) -> str:
    match kind:
        case inspect.Metadata(type=inner):
            return _type(inner, names)
        case inspect.BoolType():
            return "bool"
        case inspect.NoneType():
            return "null"
        case inspect.IntType():
            return _integer(kind)
        case inspect.BytesType(min_length=low, max_length=high):
            exact = _BYTES.get(low) if low is not None and low == high else None
            return exact or _sized("bstr", low, high)
        case inspect.StrType(min_length=low, max_length=high, pattern=pattern):
            # .regexp matches the whole text; anchors are not of its language.
            whole = pattern.removeprefix("^").removesuffix("\\Z") if pattern else None
            return f'tstr .regexp "{whole}"' if whole else _sized("tstr", low, high)
        case inspect.EnumType(cls=cls) | inspect.StructType(cls=cls):
            return names.of(cls)
        case inspect.ListType(item_type=item, min_length=low, max_length=high):
            occurs = "*" if not low and high is None else f"{low or 0}*{'' if high is None else high}"
            return f"[{occurs} {_type(item, names)}]"
        case inspect.DictType(value_type=item):
            return f"{{* tstr => {_type(item, names)}}}"
        case inspect.UnionType(types=members):
            # null last, as one reads it.
            ordered = sorted(members, key=lambda member: isinstance(member, inspect.NoneType))
            return " / ".join(_type(member, names) for member in ordered)
        case _:
            raise TypeError(f"no CDDL for {kind!r}: add it to messages.cddl")


def _integer(kind: inspect.IntType) -> str:
    low, high = kind.ge, kind.le
    if kind.gt is not None or kind.lt is not None or low is None or low < 0:
        raise TypeError(f"integers on the wire are unsigned and bounded by ge and le, not {kind!r}")
    if low == 0 and high in _INTEGERS:
        return _INTEGERS[high]
    return f"{low}..{2**64 - 1 if high is None else high}"


def _sized(name: str, low: int | None, high: int | None) -> str:
    if low is None and high is None:
        return name
    if low == high:
        return f"{name} .size {low}"
    return f"{name} .size ({low or 0}..{2**32 - 1 if high is None else high})"


def _main() -> None:
    sys.stdout.write(document())


if __name__ == "__main__":
    _main()
