"""Fuzz the inlets: python -m tests.fuzz.run TARGET [--runs N] [--seconds S] [--seed N] [--json]

TARGET is a name of tests/fuzz/targets.py, or `all`; without one they are listed. With atheris installed the search is guided by
coverage; without it, inputs are mutated at random, and it is said so. Each target has a process of its own. Inputs that did what
they must not are kept in --found (a temporary folder by default) and make the exit code 1.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

# Nothing that is to be instrumented comes with it.
from tests.fuzz.target import Slow, Target, Verdict, attempt, corpus, measured

__all__ = ["Tally", "main"]

ROOT = Path(__file__).parents[2]
# Allocations are traced for one input in so many: tracing all of them would take most of the time.
TRACED_EVERY = 256
INSTRUMENTED = ["messages", "overseer"]


class Tally:
    """What a run has seen. `found` keeps one input for each kind of misdeed."""

    def __init__(self, target: Target, folder: Path | None, keep: Path | None) -> None:
        self.target = target
        self.folder = folder
        self.keep = keep
        self.runs = 0
        self.outcomes = Counter[str]()
        self.slowest = (0.0, b"")
        self.allocated_max = 0
        self.found: dict[str, bytes] = {}
        self.seeds: list[bytes] = []

    def take(self, data: bytes) -> None:
        """Give one input to the target, and note what became of it."""
        traced = self.runs % TRACED_EVERY == 0
        self.runs += 1
        verdict = self._measure(data) if traced else attempt(self.target, data)
        if not traced and verdict.seconds > self.slowest[0] and self.runs > 1:
            self.slowest = (verdict.seconds, data)
        if verdict.outcome not in self.outcomes:
            self._learn(verdict.outcome, data)
        self.outcomes[verdict.outcome] += 1
        if verdict.error is not None and not (traced and isinstance(verdict.error, Slow)):
            self._note(_kind(verdict.error), data, repr(verdict.error))

    def _measure(self, data: bytes) -> Verdict:
        verdict, allocated = measured(self.target, data)
        self.allocated_max = max(self.allocated_max, allocated)
        # The first one imports what it needs.
        if allocated > self.target.bytes_max and self.runs > TRACED_EVERY:
            self._note("Large", data, f"{allocated} bytes")
        return verdict

    def _learn(self, outcome: str, data: bytes) -> None:
        """An outcome never seen before: worth mutating, and keeping."""
        self.seeds.append(data)
        if self.keep is not None:
            folder = self.keep / self.target.name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)

    def _note(self, kind: str, data: bytes, what: str) -> None:
        known = self.found.get(kind)
        if known is None:
            print(f"{self.target.name}: {what}: {data[:200]!r}"[:1000], file=sys.stderr)
        if known is not None and len(known) <= len(data):
            return
        self.found[kind] = data
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{self.target.name}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}").write_bytes(data)

    def report(self, engine: str, seconds: float) -> dict[str, object]:
        return {
            "target": self.target.name,
            "engine": engine,
            "runs": self.runs,
            "seconds": round(seconds, 1),
            "slowest_ms": round(self.slowest[0] * 1000, 2),
            "slowest_input": self.slowest[1][:64].hex(),
            "allocated_max_bytes": self.allocated_max,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "outcomes": dict(self.outcomes.most_common()),
            "found": {kind: data[:256].hex() for kind, data in self.found.items()},
        }


def _kind(error: BaseException) -> str:
    """Where and what: the same defect is kept once."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place is not None else ""
    return f"{type(error).__name__} {where}"


def _instrumented() -> tuple[AbstractContextManager[object], Any]:
    """Imports within it are instrumented, where atheris is installed."""
    try:
        import atheris
    except ImportError:
        return nullcontext(), None
    return atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False), atheris


def child(options: argparse.Namespace) -> None:
    """Fuzz one target in this process; the report goes into `options.place`."""
    context, atheris = (nullcontext(), None) if options.engine == "random" else _instrumented()
    with context:
        from tests.fuzz.targets import TARGETS
    target = TARGETS[options.target]
    tally = Tally(target, options.found, options.keep)
    seeds = [*target.seeds(), *corpus(target)]
    for data in seeds:
        tally.take(data)
    tally.seeds.extend(seeds)
    began = time.monotonic()

    def done() -> bool:
        return tally.runs >= options.runs or time.monotonic() - began > options.seconds

    def end(engine: str) -> None:
        (options.place / "report.json").write_text(json.dumps(tally.report(engine, time.monotonic() - began)))

    chance = random.Random(options.seed)
    if atheris is None:
        from tests.fuzz.mutate import mutated

        while not done():
            tally.take(mutated(chance, tally.seeds, target.tokens, target.input_bytes_max))
        end("random")
        return

    def one(data: bytes) -> None:
        tally.take(data)
        if done():
            end("atheris")
            # The fuzzer never returns. What we leave behind is in the parent's temporary folder.
            os._exit(0)

    inputs = options.place / "inputs"
    inputs.mkdir()
    for at, data in enumerate(seeds):
        (inputs / f"{at}").write_bytes(data)
    tokens = options.place / "tokens"
    # The form of a dictionary: one "\xff\x00" a line.
    escaped = ("".join(f"\\x{byte:02x}" for byte in token) for token in target.tokens)
    tokens.write_text("".join(f'"{text}"\n' for text in escaped))
    limits = [f"-max_len={target.input_bytes_max}", f"-seed={options.seed or 1}", "-rss_limit_mb=2048", "-timeout=60", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *limits, f"-dict={tokens}", str(inputs)], one, enable_python_coverage=True)
    atheris.Fuzz()


def fuzz(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Fuzz one target in a process of its own; its report. Raises RuntimeError when that process ended without one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="overseer-fuzz-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        place = Path(folder)
        told = ["--runs", str(options.runs), "--seconds", str(options.seconds), "--seed", str(options.seed), "--engine", options.engine]
        kept = ["--keep", str(options.keep.absolute())] if options.keep else []
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.run", name, *told, *kept, "--found", str(options.found.absolute()), "--place", str(place)],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=None if options.verbose else subprocess.PIPE,
            check=False,
            timeout=options.seconds * 20 + 300,
        )
        report = place / "report.json"
        if not report.exists():
            tail = (done.stderr or b"").decode(errors="replace")[-2000:]
            raise RuntimeError(f"{name}: the process ended with {done.returncode} and without a report\n{tail}")
        return json.loads(report.read_text())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", nargs="?", help="its name, or all")
    parser.add_argument("--runs", type=int, default=100_000, help="inputs for each target")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for each target")
    parser.add_argument("--seed", type=int, default=0, help="the same seed and engine give the same inputs")
    parser.add_argument("--engine", choices=["auto", "random"], default="auto", help="auto: atheris where it is installed")
    parser.add_argument("--json", action="store_true", help="print the reports for machines")
    parser.add_argument("--verbose", action="store_true", help="show what the fuzzer itself says")
    parser.add_argument("--found", type=Path, default=Path(tempfile.gettempdir()) / "overseer-fuzz-found", help="where found cases go")
    parser.add_argument("--keep", type=Path, default=None, help="a folder for one input of each outcome (tests/fuzz/corpus)")
    parser.add_argument("--place", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.place is not None:
        child(options)
        return 0
    from tests.fuzz.targets import TARGETS

    if options.target is None:
        print("\n".join(f"{name:12} {target.about}" for name, target in TARGETS.items()))
        return 0
    names = list(TARGETS) if options.target == "all" else [options.target]
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    reports: list[dict[str, Any]] = []
    for name in names:
        reports.append(fuzz(name, options))
        if not options.json:
            print(_line(reports[-1]), flush=True)
    if options.json:
        print(json.dumps(reports, indent=1))
    return 1 if any(report["found"] for report in reports) else 0


def _line(report: dict[str, Any]) -> str:
    shown = f"{report['target']:12} {report['runs']:9} inputs in {report['seconds']:6} s by {report['engine']}"
    bounds = f"slowest {report['slowest_ms']} ms, at most {report['allocated_max_bytes'] // 1024} KiB, {len(report['outcomes'])} outcomes"
    return f"{shown}; {bounds}" + (f"; FOUND {', '.join(report['found'])}" if report["found"] else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
