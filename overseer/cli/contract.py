"""`overseer contract`: what goes over the bus, in the forms that other tools read."""

import json
import sys
from typing import Annotated, Any, cast

import typer

from overseer.cli.common import fail, near

__all__ = ["asyncapi_text", "contract"]

_COLUMNS = 140


def asyncapi_text() -> str:
    """The AsyncAPI document of all subsystems of this package, as docs/asyncapi.json has it."""
    from overseer.asyncapi import document
    from overseer.node.catalogue import SECTIONS, build_subsystems
    from overseer.settings import load_config

    loaded = load_config(environ={"OVERSEER_CONFIG": ""}, sections=SECTIONS)
    made = document(subsystem.declaration for subsystem in build_subsystems(loaded).values())
    return _folded(made) + "\n"


def _folded(value: Any, indent: int = 0) -> str:
    """JSON with every value that fits on a line on one line: a third of the lines, and as easy to read."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= _COLUMNS or not isinstance(value, dict | list):
        return line
    pad = " " * (indent + 1)
    if isinstance(value, list):
        inner = [pad + _folded(each, indent + 1) for each in cast(list[Any], value)]
        return "[\n" + ",\n".join(inner) + "\n" + " " * indent + "]"
    named = [f"{pad}{json.dumps(key)}: {_folded(each, indent + 1)}" for key, each in cast(dict[str, Any], value).items()]
    return "{\n" + ",\n".join(named) + "\n" + " " * indent + "}"


def contract(
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="AsyncAPI 3.0: channels, operations, messages, payloads.")] = False,
    cddl: Annotated[bool, typer.Option("--cddl", help="CDDL (RFC 8610) of every body in CBOR.")] = False,
    json_schema: Annotated[
        str | None, typer.Option("--json-schema", metavar="MESSAGE", help="JSON Schema of a message's JSON form.", show_default=False)
    ] = None,
) -> None:
    """Print the contract of the bus, generated from the code: for other clients, code generators, validators and documentation.

    MESSAGE is a name (`register_vote`), or where several have it a key (`votes_db.cmd.register_vote`).
    """
    if sum([asyncapi, cddl, json_schema is not None]) != 1:
        fail("One form at a time.", "Give --asyncapi, --cddl or --json-schema MESSAGE.")
    sys.stdout.write(asyncapi_text() if asyncapi else _cddl() if cddl else _json_schema(json_schema or ""))
    sys.stdout.flush()


def _cddl() -> str:
    from messages.cddl import document

    return document()


def _json_schema(name: str) -> str:
    from messages.contract import load
    from messages.json_schema import schema

    catalog = load()
    found = catalog.by_name(name.replace("-", "_"))
    if not found:
        fail(f"There is no message {name!r}.", near(name, {spec.name for spec in catalog}))
    if len(found) > 1:
        fail(f"{name!r} is ambiguous.", "Use one of: " + ", ".join(spec.key for spec in found))
    return _folded(schema(found[0])) + "\n"
