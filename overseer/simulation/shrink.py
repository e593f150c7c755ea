"""From a failing case to a small one that fails alike: fewer nodes, faults and inputs, and nothing behind the failure."""

import re
import time
from collections.abc import Sequence

import msgspec

from overseer.simulation.plan import Case
from overseer.simulation.registry import find_scenario
from overseer.simulation.run import Outcome, OwnMachinery, drawn, play
from overseer.simulation.scenario import Scenario, Sized

__all__ = ["command", "kept", "shrink"]

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def shrink(outcome: Outcome, scenario: Scenario | OwnMachinery | None = None, *, seconds: float = 60.0) -> Outcome:
    """The smallest failing case found in that time (delta debugging), or `outcome` itself. Only the same checker counts."""
    search = _Search(outcome, scenario or find_scenario(outcome.case.scenario), time.monotonic() + seconds)
    search.fewer_nodes()
    search.nothing_afterwards()
    search.fewer("keep_faults")
    search.fewer("keep_inputs")
    # With fewer inputs fewer faults may do.
    search.fewer("keep_faults")
    return search.best


class _Search:
    def __init__(self, outcome: Outcome, scenario: Scenario | OwnMachinery, until: float) -> None:
        self.best = outcome
        self._scenario = scenario
        self._until = until

    def fewer_nodes(self) -> None:
        sizes = self._scenario.sizes if isinstance(self._scenario, Sized) else range(1, self.best.case.nodes)
        for nodes in sizes:
            if nodes < self.best.case.nodes and self._fails(msgspec.structs.replace(self.best.case, nodes=nodes)):
                return

    def nothing_afterwards(self) -> None:
        """What comes after the failure has no part in it (but for what is judged at the end)."""
        case, end_ms = self.best.case, self.best.virtual_s * 1000
        played = drawn(case, self._scenario)
        faults = tuple(place for place, fault in enumerate(played.faults) if fault.at_ms <= end_ms)
        inputs = tuple(place for place, submission in enumerate(played.traffic) if submission.at_ms <= end_ms)
        self._fails(msgspec.structs.replace(case, keep_faults=faults, keep_inputs=inputs))

    def fewer(self, field: str) -> None:
        """Drop what can be dropped of that field, in ever smaller parts."""
        places: Sequence[int] | None = getattr(self.best.case, field)
        if places is None:
            return
        size = max(1, len(places) // 2)
        while places and time.monotonic() < self._until:
            dropped = self._drop_one_part(field, tuple(places), size)
            places = getattr(self.best.case, field)
            if not dropped:
                if size == 1:
                    return
                size = max(1, size // 2)

    def _drop_one_part(self, field: str, places: tuple[int, ...], size: int) -> bool:
        """One pass over all parts of that size, the last first (they have the least consequences). Whether any could go."""
        dropped = False
        for start in range((len(places) - 1) // size * size, -1, -size):
            without = places[:start] + places[start + size :]
            if self._fails(msgspec.structs.replace(self.best.case, **{field: without})):
                places, dropped = without, True
        return dropped

    def _fails(self, case: Case) -> bool:
        if time.monotonic() >= self._until:
            return False
        outcome = play(case, self._scenario)
        if outcome.violation is None or outcome.checker != self.best.checker:
            return False
        self.best = outcome
        return True


def command(case: Case) -> str:
    """What replays exactly this case."""
    words = ["overseer simulate", f"--seed {case.seed}", f"--scenario {case.scenario}", f"--nodes {case.nodes}", f"--hours {case.hours:g}"]
    words.append(f"--faults {case.faults}")
    keeps: list[tuple[str, tuple[int, ...] | None]] = [("--keep-faults", case.keep_faults), ("--keep-inputs", case.keep_inputs)]
    words += [f"{flag} {_ranges(places) or 'none'}" for flag, places in keeps if places is not None]
    return " ".join(words)


def kept(text: str) -> tuple[int, ...]:
    """The places that a `--keep-...` option names: `3,7-9`, or `none`. Raises ValueError."""
    if text == "none":
        return ()
    places: list[int] = []
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            raise ValueError(f"{part!r} is neither a place nor a range of places, such as 3 or 7-9")
        first = int(found[1])
        places.extend(range(first, int(found[2] or first) + 1))
    return tuple(sorted(set(places)))


def _ranges(places: Sequence[int]) -> str:
    """`(3, 7, 8, 9)` as `3,7-9`."""
    parts: list[list[int]] = []
    for place in places:
        if parts and place == parts[-1][1] + 1:
            parts[-1][1] = place
        else:
            parts.append([place, place])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
