"""Pytest in a process of its own, as the pages' readers run it."""

import sys
from pathlib import Path

__all__ = ["nested_pytest"]


def nested_pytest(folder: Path) -> list[str]:
    """The command. Its temporary files are in `folder`: in the place common to all runs it would, before it ends, clear away
    what older ones left there, which takes minutes when that is much."""
    plug_in = ["-p", "no:cacheprovider", "-p", "no:overseer", "-p", "overseer.testing.plugin"]
    return [sys.executable, "-m", "pytest", *plug_in, f"--basetemp={folder / 'pytest'}"]
