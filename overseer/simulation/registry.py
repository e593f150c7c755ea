"""The scenarios that can be played, by name."""

from importlib import import_module

from overseer.simulation.scenario import Scenario

__all__ = ["SCENARIOS", "UnknownScenario", "find_scenario"]

# Where each is made: `module:name` of a Scenario object. `<name>:<variant>` is in the same module, under the variant's name.
SCENARIOS: dict[str, str] = {"disputes": "overseer.simulation.disputes:scenario"}


class UnknownScenario(Exception):
    """There is none of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no scenario {name!r}; known are {', '.join(SCENARIOS)}, or `module:name` of one")


def find_scenario(name: str) -> Scenario:
    """A registered one, or `module:name` of any. Raises UnknownScenario."""
    module, found, attribute = SCENARIOS.get(name, name).partition(":")
    if not found:
        raise UnknownScenario(name)
    try:
        return getattr(import_module(SCENARIOS.get(module, module).partition(":")[0]), attribute)
    except (ImportError, AttributeError):
        raise UnknownScenario(name) from None
