"""What a message's fields are, in words: type, unit, limits, and what its source says of each."""

import ast
import enum
import functools
import inspect as python_inspect
import re
import sys
from collections.abc import Callable

from msgspec import inspect

__all__ = ["Words", "about", "remarks"]

# Of a named type of messages/primitives.py: what is counted.
UNITS = {
    "TimeMs": "ms since 1970",
    "SessionIndex": "a session",
    "ValidatorIndex": "a validator's place in its session",
    "BlockNumber": "a block's number",
    "PublicKey": "public key",
    "Ed25519Key": "Ed25519 key",
    "Hash32": "hash",
    "Signature64": "signature",
    "Bitfield": "lowest bit first",
    "Name": "a token: lower snake case",
}
# Of a name's ending, where the type does not say it.
ENDINGS = {"_ms": "ms", "_bytes": "bytes", "_blocks": "blocks", "_s": "seconds"}
# From the bound to the name of an integer.
INTEGERS = {2**8 - 1: "u8", 2**16 - 1: "u16", 2**32 - 1: "u32", None: "u64"}


class Words:
    """Types in words; `link` says how a named type is referred to."""

    def __init__(self, link: Callable[[type], str]) -> None:
        self._link = link

    def fields(self, kind: type) -> list[tuple[str, str, str]]:
        """(name, type and limits, meaning) of each field; nothing for a type without fields."""
        info = inspect.type_info(kind)
        if not isinstance(info, inspect.StructType):
            return []
        told, named = remarks(kind), _annotations(kind)
        rows: list[tuple[str, str, str]] = []
        for field in info.fields:
            words = self.of(field.type)
            if not field.required:
                words += ", may be absent"
            unit = _unit(field.name, named.get(field.name, ""))
            what = told.get(field.name, "").rstrip(".")
            rows.append((field.name, words, f"{what} ({unit})" if what and unit else what or unit))
        return rows

    def of(self, kind: inspect.Type) -> str:
        """A type in a few words, with its limits."""
        match kind:
            case inspect.Metadata(type=inner):
                return self.of(inner)
            case inspect.BoolType():
                return "true or false"
            case inspect.NoneType():
                return "null"
            case inspect.IntType():
                return _integer(kind)
            case inspect.BytesType(min_length=low, max_length=high):
                return _sized("bytes", low, high)
            case inspect.StrType(min_length=low, max_length=high, pattern=pattern):
                return "text like `" + pattern.replace("|", "\\|") + "`" if pattern else _sized("text", low, high)
            case inspect.ListType(item_type=item, min_length=low, max_length=high):
                return f"list of {_sized('', low, high)} {self.of(item)}".replace("  ", " ")
            case inspect.DictType(key_type=key, value_type=item):
                return f"map from {self.of(key)} to {self.of(item)}"
            case inspect.UnionType(types=members):
                return " or ".join(self.of(member) for member in members)
            case inspect.EnumType(cls=cls) | inspect.StructType(cls=cls):
                return self._link(cls)
            case _:
                raise TypeError(f"no words for {kind}")


def _integer(kind: inspect.IntType) -> str:
    low, high = kind.ge, kind.le
    if low in (0, None) and high in INTEGERS:
        return INTEGERS[high]
    return f"{low or 0} to {high}" if high is not None else f"u64, at least {low}"


def _sized(what: str, low: int | None, high: int | None) -> str:
    if low is not None and low == high:
        return f"{low} {what}".strip()
    bounds = [f"at least {low}"] if low else []
    bounds += [f"at most {high}"] if high is not None else []
    return (
        f"{' and '.join(bounds)} {what}".strip()
        if not what or what == "bytes"
        else ", ".join([what, *([f"{' and '.join(bounds)} characters"] if bounds else [])])
    )


def _unit(name: str, annotation: str) -> str:
    """What a number or byte string counts or is."""
    for alias, unit in UNITS.items():
        if re.search(rf"\b{alias}\b", annotation):
            return unit
    return next((unit for ending, unit in ENDINGS.items() if name.endswith(ending)), "")


# ------------------------------------------------------------------------------------------------ what the source says


def about(kind: type) -> str:
    """The docstring of its own, or "" (an enumeration of text inherits one)."""
    own = kind.__dict__.get("__doc__") or ""
    if issubclass(kind, enum.Enum) and own == enum.StrEnum.__doc__:
        return ""
    return python_inspect.cleandoc(own)


@functools.cache
def _source(module: str) -> tuple[list[str], dict[str, ast.ClassDef]]:
    text = python_inspect.getsource(sys.modules[module])
    return text.splitlines(), {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}


def _members(kind: type) -> dict[str, ast.AnnAssign | ast.Assign]:
    """The statements by which the class declares fields, or an enumeration its values."""
    _, classes = _source(kind.__module__)
    found: dict[str, ast.AnnAssign | ast.Assign] = {}
    for node in classes[kind.__name__].body:
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and isinstance(node, (ast.AnnAssign, ast.Assign)):
            found[target.id] = node
    return found


def _ancestors(kind: type) -> list[type]:
    """The type and those it inherits fields from, the eldest first."""
    return [each for each in reversed(kind.__mro__) if each.__module__.startswith("messages.")]


def _annotations(kind: type) -> dict[str, str]:
    return {name: words for each in _ancestors(kind) for name, words in _own_annotations(each).items()}


def _own_annotations(kind: type) -> dict[str, str]:
    lines, _ = _source(kind.__module__)
    aliases = dict(re.findall(r"^(_\w+) = (Annotated\[.*)$", "\n".join(lines), re.MULTILINE))
    written = {name: ast.unparse(node.annotation) for name, node in _members(kind).items() if isinstance(node, ast.AnnAssign)}
    return {name: aliases.get(annotation.split(" ")[0], annotation) for name, annotation in written.items()}


def remarks(kind: type) -> dict[str, str]:
    """By field or value: the comment above it, else the one at its end."""
    return {name: words for each in _ancestors(kind) for name, words in _own_remarks(each).items()}


def _own_remarks(kind: type) -> dict[str, str]:
    lines, _ = _source(kind.__module__)
    told: dict[str, str] = {}
    for name, node in _members(kind).items():
        above: list[str] = []
        line = node.lineno - 2
        while lines[line].strip().startswith("# "):
            above.insert(0, lines[line].strip().removeprefix("# "))
            line -= 1
        _, sharp, behind = lines[(node.end_lineno or node.lineno) - 1].partition("  # ")
        told[name] = " ".join(above) or (behind if sharp else "")
    return told
