"""Queues of gateways, simulated on whole nodes: every rule is kept, and the seeds meet what queues can come to."""

import functools
from collections import Counter
from random import Random

import msgspec
import pytest
from quiet_network import QuietNetwork, play_quietly

from messages.gateway_queries import (
    AssignedRequestPage,
    ExecutionPage,
    GatewayPage,
    ListGateways,
    RequestPage,
    ResultsPage,
)
from messages.gateways import ClaimsExpired, RequestsReturned, RoundOutcome, RoundResults
from messages.message import Message
from overseer.simulation.campaign import cases
from overseer.simulation.checks_course import CourseChecker
from overseer.simulation.checks_queues import QueuesAtRest
from overseer.simulation.gateways import scenario
from overseer.simulation.registry import find_scenario
from overseer.simulation.run import play
from overseer.simulation.scenario import AtRest, Network, Violation
from overseer.simulation.shrink import command

# With results, assignments and executions at its end.
LIVELY = 0


def network_of(seed: int, nodes: int = 1) -> Network:
    return Network(seed=seed, nodes=tuple(f"n{i + 1}" for i in range(nodes)), hours=1.0)


def queues_of(network: QuietNetwork) -> CourseChecker[QueuesAtRest]:
    found = next(checker for checker in network.checkers if checker.name == "queues")
    assert isinstance(found, CourseChecker)
    return found


def test_the_same_seed_asks_the_same_and_another_one_something_else() -> None:
    def asked(seed: int) -> list[object]:
        return list(scenario.traffic(network_of(seed, 2), Random(seed)))

    assert find_scenario("gateways") is scenario
    assert asked(3) == asked(3)
    assert asked(3) != asked(4)


@pytest.mark.parametrize("seed", range(3))
def test_every_rule_of_queues_is_kept_where_nothing_goes_wrong(seed: int) -> None:
    play_quietly(scenario, network_of(seed, 1 + seed % 2))


@pytest.mark.slow
def test_the_seeds_meet_what_queues_can_come_to() -> None:
    """Every event of a queue, every refusal of votes and proofs, alternates promoted, refunds, flags: the scenario is worth its time."""
    events, codes, met = Counter[str](), Counter[str](), set[str]()
    for seed in range(16):
        for given in queues_of(play_quietly(scenario, network_of(seed))).inputs("n1"):
            codes[given.code] += 1
            for event in given.events:
                events[event.spec.name] += 1
                met |= met_in(event)
    assert met == {"promoted", "open again", "flagged", "returned", "assigned", "carried", "refunded", "alternates"}
    assert {"rounds_skipped", "unbond_requested", "session_seen", "governance_seen", "request_executed"} <= set(events)
    assert {"wrong_phase", "insufficient_stake", "not_eligible", "unknown_item", "duplicate_request"} <= set(codes)
    assert {"not_authorized", "already_executed", "bad_proof"} <= set(codes)


def met_in(event: Message) -> set[str]:
    match event:
        case ClaimsExpired():
            return {"promoted" if claim.promoted is not None else "open again" for claim in event.claims}
        case RequestsReturned():
            return ({"flagged"} if event.executed else set()) | ({"returned"} if event.returned else set())
        case RoundResults():
            outcomes = {result.outcome.value for result in event.results if result.outcome is not RoundOutcome.EXPIRED}
            refunded = {"refunded" for result in event.results if result.refund}
            return outcomes | refunded | {"alternates" for result in event.results if result.alternates}
        case _:
            return set()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_rule_of_queues_is_kept_while_everything_goes_wrong() -> None:
    for case in cases("gateways", range(5_000, 5_008), nodes=None, hours=None, faults=None):
        outcome = play(case)
        assert outcome.violation is None, f"{outcome.violation}\n{command(outcome.case)}"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [40, 78, 103, 5004])
def test_a_seed_of_gateways_that_found_a_defect(seed: int) -> None:
    """40, 78: behind itself on a replaced stream; 5004: a chain said again; 103: a last page without a request, which is none."""
    outcome = play(next(cases("gateways", [seed], nodes=None, hours=None, faults=None)))
    assert outcome.violation is None, f"{outcome.violation}\n{command(outcome.case)}"


# ------------------------------------------------------------------------------------------------ the judges bite


@functools.cache
def lively() -> QuietNetwork:
    return play_quietly(scenario, network_of(LIVELY))


class Lying:
    """AtRest whose answers of one kind are changed: the named field of the answer itself, or of its first row."""

    def __init__(self, network: QuietNetwork, kind: type[Message], rows: str, change: dict[str, object]) -> None:
        self.network = network.network
        self.outstanding = network.outstanding
        self.store = network.store
        self.stream = network.stream
        self.lies = 0
        self._asked = network
        self._kind = kind
        self._rows = rows
        self._change = change

    def ask(self, node: str, query: Message) -> Message:
        answer = self._asked.ask(node, query)
        if type(answer) is not self._kind or not getattr(answer, self._rows):
            return answer
        self.lies += 1
        first, *rest = getattr(answer, self._rows)
        rows = [msgspec.structs.replace(first, **self._change), *rest] if self._change else rest
        return msgspec.structs.replace(answer, **{self._rows: rows})


@pytest.mark.parametrize(
    ("kind", "rows", "change"),
    [
        (RequestPage, "requests", {}),
        (AssignedRequestPage, "requests", {}),
        (AssignedRequestPage, "requests", {"holders": []}),
        (GatewayPage, "gateways", {"free": 7_777}),
        (GatewayPage, "gateways", {"unbonded": 7_777}),
        (ResultsPage, "results", {"winners": []}),
        (ExecutionPage, "executions", {"executor": bytes(32)}),
    ],
)
def test_an_answer_about_queues_that_is_not_true_is_noticed(kind: type[Message], rows: str, change: dict[str, object]) -> None:
    network = lively()
    assert isinstance(network.ask("n1", ListGateways(election="ingestion")), GatewayPage)
    lying = Lying(network, kind, rows, change)
    lie: AtRest = lying

    def judge() -> None:
        for checker in network.checkers:
            checker.at_rest(lie)

    with pytest.raises(Violation):
        judge()
    assert lying.lies
