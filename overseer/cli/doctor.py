"""`overseer doctor`: whether an installation and a node's folder are as they should be."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.markup import escape

from overseer.cli.common import ConfigFile, DataDir, Json, NodeName, load_settings, print_json, say
from overseer.node.catalogue import SECTIONS
from overseer.settings import ConfigError, load_config

if TYPE_CHECKING:
    from overseer.checkup.check import Patient

__all__ = ["doctor"]

_STYLES = {"ok": "green", "warning": "bold yellow", "wrong": "bold red"}


def doctor(config: ConfigFile = None, data_dir: DataDir = None, node: NodeName = None, json: Json = False) -> None:
    """Check the installation, the machine, and the node's folder, running or not. Exit code 1 if something is wrong.

    Nothing is changed: a scratch file for the timing of syncs is removed again. Warnings do not change the exit code.
    """
    # Pull in every library that is checked.
    from overseer.checkup.catalogue import CHECKS
    from overseer.checkup.check import Told, Verdict, run_checks

    told: list[Told] = []
    for found in run_checks(CHECKS, _patient(config, data_dir, node)):
        told.append(found)
        if not json:
            style = _STYLES[found.verdict.value]
            remedy = f". {found.remedy}" if found.remedy else ""
            say(f"[{style}]{found.verdict.value:<8}[/] [bold]{found.check}[/]: {escape(found.what)}[dim]{escape(remedy)}[/]")
    if json:
        print_json([msgspec.to_builtins(each) for each in told])
    else:
        counts = {verdict: sum(each.verdict is verdict for each in told) for verdict in Verdict}
        say(f"{counts[Verdict.WRONG]} wrong, {counts[Verdict.WARNING]} warnings, {counts[Verdict.OK]} ok")
    if any(each.verdict is Verdict.WRONG for each in told):
        raise typer.Exit(1)


def _patient(config: Path | None, data_dir: Path | None, node: str | None) -> "Patient":
    """Also of a configuration that cannot be used: it is told, and the rest is checked with the defaults."""
    from overseer.checkup.check import Patient

    try:
        return Patient(loaded=load_settings(config, data_dir, node))
    except ConfigError as error:
        given = {"data_dir": data_dir, "node": node}
        loaded = load_config(environ={"OVERSEER_CONFIG": ""}, flags=given, sections=SECTIONS)
        return Patient(loaded=loaded, config_error=str(error))
