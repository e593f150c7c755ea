"""The canonical order of maps, worked out once for each of our types: sorting them anew for every message takes as long as encoding."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from msgspec import inspect

__all__ = ["arranger"]

# Takes plain data (as msgspec.to_builtins gives it) and returns it with all maps in canonical order.
Arrange = Callable[[Any], Any]


class _Unknown(Exception):
    """The order cannot be told from the type."""


@lru_cache(maxsize=4096)
def arranger(kind: type) -> Arrange | None:
    """What puts the plain data of a value of `kind` into canonical order (RFC 8949 section 4.2.3); None when only sorting can."""
    try:
        return _arrange(inspect.type_info(kind)) or _as_it_is
    except (_Unknown, TypeError):
        return None


def _as_it_is(data: Any) -> Any:
    return data


def _arrange(kind: inspect.Type) -> Arrange | None:
    """None: there are no maps in it. Raises _Unknown."""
    match kind:
        case inspect.Metadata(type=inner):
            return _arrange(inner)
        case (
            inspect.IntType()
            | inspect.StrType()
            | inspect.BytesType()
            | inspect.BoolType()
            | inspect.NoneType()
            | inspect.EnumType()
            | inspect.LiteralType()
        ):
            return None
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return _of_items(_arrange(item))
        case inspect.UnionType(types=members):
            return _of_choice([_arrange(member) for member in members if not isinstance(member, inspect.NoneType)])
        case inspect.StructType() if kind.tag is None and not _config(kind).omit_defaults:
            return _of_row(kind) if kind.array_like else _of_map(kind)
        case _:
            raise _Unknown


def _config(kind: inspect.StructType) -> Any:
    return kind.cls.__struct_config__


def _of_items(item: Arrange | None) -> Arrange | None:
    if item is None:
        return None
    return lambda data: [item(each) for each in data]


def _of_choice(members: list[Arrange | None]) -> Arrange | None:
    """Of several kinds, or null: only one that holds maps may be told from the others."""
    if not any(members):
        return None
    if len(members) > 1:
        raise _Unknown
    (only,) = members
    assert only is not None
    return lambda data: None if data is None else only(data)


def _of_row(kind: inspect.StructType) -> Arrange | None:
    fields = [_arrange(field.type) for field in kind.fields]
    if not any(fields):
        return None
    return lambda data: [each if inner is None else inner(each) for inner, each in zip(fields, data, strict=True)]


def _of_map(kind: inspect.StructType) -> Arrange:
    order = sorted(((field.encode_name, _arrange(field.type)) for field in kind.fields), key=lambda f: (len(f[0].encode()), f[0].encode()))
    names = [name for name, _ in order]
    inner = [(name, arrange) for name, arrange in order if arrange is not None]

    def arrange(data: dict[str, Any]) -> dict[str, Any]:
        arranged = {name: data[name] for name in names}
        for name, each in inner:
            arranged[name] = each(arranged[name])
        return arranged

    return arrange
