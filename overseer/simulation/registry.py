"""The scenarios that can be played, by name."""

from importlib import import_module
from typing import TYPE_CHECKING

from overseer.simulation.scenario import Scenario

if TYPE_CHECKING:
    from overseer.simulation.run import OwnMachinery

__all__ = ["SCENARIOS", "UnknownScenario", "find_scenario"]

# Where each is made: `module:name` of a Scenario, or of one with a machinery of its own. `<name>:<variant>` is in the same module,
# under the variant's name.
SCENARIOS: dict[str, str] = {
    "disputes": "overseer.simulation.disputes:scenario",
    "gateways": "overseer.simulation.gateways:scenario",
    "elections": "overseer.simulation.elections.scenario:scenario",
    "consensus": "overseer.simulation.consensus.scenario:scenario",
    "peers": "overseer.simulation.peer_nodes.scenario:scenario",
}


class UnknownScenario(Exception):
    """There is none of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no scenario {name!r}; known are {', '.join(SCENARIOS)}, or `module:name` of one")


def find_scenario(name: str) -> "Scenario | OwnMachinery":
    """A registered one, or `module:name` of any. Raises UnknownScenario."""
    module, found, attribute = SCENARIOS.get(name, name).partition(":")
    if not found:
        raise UnknownScenario(name)
    try:
        return getattr(import_module(SCENARIOS.get(module, module).partition(":")[0]), attribute)
    except (ImportError, AttributeError):
        raise UnknownScenario(name) from None
