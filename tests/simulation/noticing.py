"""Where mutants are noticed: each has its row in the table of its test, with the seed that is tried first."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mutants import Mutant

__all__ = ["Find", "Table"]


class Find(NamedTuple):
    """By which seed, and by which checker. `scenario`, `stage`: where a test has several."""

    seed: int
    checker: str
    scenario: str = ""
    stage: str = ""


class Table(NamedTuple):
    """`played` is the checker that notices there what is broken now, or "". `anywhere`: where a mutant without a row is looked for."""

    mutants: Mapping[str, Mutant]
    found: Mapping[str, Find]
    played: Callable[[Find], str]
    seeds: Sequence[int]
    anywhere: Sequence[Find] = (Find(0, ""),)

    def noticed(self, name: str) -> Find | None:
        """By the seed that noticed it before, or else by the first of `seeds`."""
        known = [self.found[name]] if name in self.found else []
        for seed in dict.fromkeys([*(find.seed for find in known), *self.seeds]):
            for place in known or self.anywhere:
                at = place._replace(seed=seed)
                with self.mutants[name]():
                    checker = self.played(at)
                if checker:
                    return at._replace(checker=checker)
        return None

    def expect_noticed(self, name: str) -> None:
        assert self.noticed(name) is not None, f"{name} lives: {self.mutants[name].__doc__}"

    def expect_complete(self, least: int) -> None:
        assert set(self.found) == set(self.mutants)
        assert len(self.mutants) >= least

    def show(self) -> None:
        """Print the rows of the mutants named on the command line, or of all, as each is found now."""
        for name in sys.argv[1:] or self.mutants:
            found = self.noticed(name)
            row = "" if found is None else ", ".join(json.dumps(part) for part in found if part != "")
            print(f'    "{name}": Find({row}),' if row else f"    # {name} LIVES", flush=True)
