"""Two readers of CDDL that are not ours: `pycddl` (the Rust crate `cddl`) and `zcbor` (Nordic's).

Neither reads all of RFC 8610, so each is given what it can:

- pycddl takes the published document as it is. It gets arrays wrong that hold an optional row or a shorter one, and takes any map for
  an empty one: so it is asked about messages that have fields and no rows alone.
- zcbor takes every message, of a document in its dialect: dashes for dots in names, `nil` for `null`, keys of maps in the order of
  the wire, no `.regexp`, no type's name as the label of a row's field. All of that is done to the text alone.
"""

import re
from collections.abc import Callable

import cbor2
import pycddl
from msgspec import inspect

from messages.cddl import document, one_line
from messages.message import Spec

# zcbor 0.9.1 imports a name that cbor2 6 has no more; nothing else of it is missed.
if not hasattr(cbor2, "CBORDecodeValueError"):
    cbor2.CBORDecodeValueError = cbor2.CBORDecodeError  # type: ignore[attr-defined]

from zcbor.zcbor.zcbor import CddlValidationError, DataTranslator

# Whether a body is one by the rule.
Reader = Callable[[Spec, bytes], bool]

# Lists without a bound of their own, for zcbor.
_ITEMS_MAX = 100_000


def dialect(text: str) -> str:
    """The document as zcbor reads it."""
    text = re.sub(r";.*$", "", text, flags=re.M)
    text = re.sub(r'(?<!["\w.-])[a-z]\w*(?:\.\w+)+', lambda found: _dashed(found[0]), text)
    text = re.sub(r' \.regexp "[^"]*"', "", re.sub(r"\bnull\b", "nil", text))
    text = re.sub(r"^  (\? )?([a-z_0-9]+): ", r"  \1at-\2: ", text, flags=re.M)
    return re.sub(r"^([a-z][\w-]* = )\{\n(.*?)\n\}", _sorted, text, flags=re.M | re.S)


def _dashed(name: str) -> str:
    return name.replace(".", "-")


def _sorted(rule: re.Match[str]) -> str:
    def wire(line: str) -> tuple[int, str]:
        key = line.split('"')[1]
        return len(key), key

    lines = sorted((line for line in rule[2].split("\n") if line.strip()), key=wire)
    return "\n".join([rule[1] + "{", *lines, "}"])


def zcbor_reader() -> Reader:
    """Every message."""
    rules = DataTranslator.from_cddl(dialect(document()), _ITEMS_MAX).my_types

    def fits(spec: Spec, body: bytes) -> bool:
        try:
            return bool(rules[_dashed(spec.key)].validate_str(body))
        except CddlValidationError:
            return False

    return fits


def pycddl_reader() -> Reader:
    """Messages with fields and without rows. Raises ValueError when the document is none."""
    whole, made = document(), dict[str, pycddl.Schema]()
    pycddl.Schema(whole)
    head = whole.partition("; ---")[0]

    def fits(spec: Spec, body: bytes) -> bool:
        if spec.key not in made:
            # The first rule is the one that counts. What it does not need is left out: it would be parsed for each message.
            made[spec.key] = pycddl.Schema(f"start = {spec.key}\n{head}{one_line(spec)}")
        try:
            made[spec.key].validate_cbor(body)
        except pycddl.ValidationError:
            return False
        return True

    return fits


def for_pycddl(spec: Spec) -> bool:
    """Whether it has fields, and nothing in it is an array of fields."""
    if not spec.body.__struct_fields__:
        return False
    seen: set[type] = set()
    stack: list[inspect.Type] = [inspect.type_info(spec.body)]
    while stack:
        match stack.pop():
            case inspect.StructType(cls=cls, fields=fields, array_like=array):
                if array:
                    return False
                if cls not in seen:
                    seen.add(cls)
                    stack += [field.type for field in fields]
            case inspect.Metadata(type=inner) | inspect.ListType(item_type=inner) | inspect.DictType(value_type=inner):
                stack.append(inner)
            case inspect.UnionType(types=members):
                stack += members
            case _:
                pass
    return True
