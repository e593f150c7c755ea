"""What processes take, as /proc tells it: Linux only."""

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["alive", "children", "cpu_s", "known", "program", "resident_mb", "subsystem_name", "tree"]

_PROC = Path("/proc")


def known() -> bool:
    """Whether this machine tells."""
    return (_PROC / "self" / "stat").exists()


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    parents = _parents()
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def children(pid: int) -> list[int]:
    """Those that a process started itself; none of one that is gone."""
    return [child for child, parent in _parents().items() if parent == pid]


def alive(pid: int) -> bool:
    """Whether there is such a process here."""
    return (_PROC / str(pid)).exists()


def program(pid: int) -> str:
    """The name of its program, as far as the kernel keeps it (15 letters); "" of one that is gone."""
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def cpu_s(pids: Iterable[int]) -> float:
    """Processor time that they took so far, in seconds; nothing of those that are gone."""
    ticks = 0
    for pid in pids:
        try:
            fields = _stat(pid)
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """In megabytes of a million bytes."""
    pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def subsystem_name(pid: int) -> str:
    """The subsystem that a process runs, or ""."""
    arguments = (_PROC / str(pid) / "cmdline").read_text().split("\0")
    return arguments[arguments.index("subsystem") + 1] if "subsystem" in arguments else ""


def _parents() -> dict[int, int]:
    """Of every process: who started it, or who has it now."""
    parents: dict[int, int] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
            except OSError:
                # Gone between the listing and the look.
                continue
    return parents


def _stat(pid: int) -> list[str]:
    """The fields behind the name (which may hold anything): state, parent, ..."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
