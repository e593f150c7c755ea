"""The disputes' scenario and its judges, on a network without faults: thousands of inputs in seconds."""

import functools
from collections.abc import Sequence
from random import Random

import msgspec
import pytest
from quiet_network import QuietNetwork, play_quietly

from messages.chain_api import BlacklistStatus, GovernanceReport, GovernanceStatus, IsBlacklisted
from messages.codec import decode, decode_value
from messages.message import Message
from messages.votes_db import DisputeStatus, RegisterVote, VotesSnapshot
from overseer.runner.schema import JOURNAL, Record
from overseer.simulation.byzantine import MALLORY, VARIANTS
from overseer.simulation.checks_chain_rest import ChainAtRest
from overseer.simulation.checks_course import CourseChecker
from overseer.simulation.checks_votes_rest import VotesAtRest
from overseer.simulation.disputes import Disputes, scenario, scenarios
from overseer.simulation.plan import Case
from overseer.simulation.registry import UnknownScenario, find_scenario
from overseer.simulation.run import play
from overseer.simulation.scenario import AtRest, Checker, Network, Submission, Violation

# Variants of which the rules take nothing at all: the nodes are the same as without them, row by row.
WITHOUT_EFFECT = (
    "awaited_usurpation",
    "bad_blocks",
    "forged_headers",
    "forged_resumes",
    "garbage_at_every_subject",
    "huge_bodies",
    "json_bombs",
    "malformed_bitfields",
    "other_forms_of_one_value",
    "swapped_receipts",
    "unknown_and_missing_fields",
    "usurped_commands",
    "wrong_types",
)


def network_of(seed: int, nodes: int = 1) -> Network:
    return Network(seed=seed, nodes=tuple(f"n{i + 1}" for i in range(nodes)), hours=1.0)


def model(checkers: Sequence[Checker], name: str, node: str = "n1"):
    found = next(checker for checker in checkers if checker.name == name)
    assert isinstance(found, CourseChecker)
    return found.models[node]


def test_the_same_seed_says_the_same_and_another_one_something_else() -> None:
    def said(seed: int) -> list[Submission]:
        return list(scenario.traffic(network_of(seed, 2), Random(seed)))

    assert said(3) == said(3)
    assert said(3) != said(4)


@pytest.mark.parametrize("seed", range(6))
def test_every_promise_of_the_disputes_is_kept_where_nothing_goes_wrong(seed: int) -> None:
    play_quietly(scenario, network_of(seed, 1 + seed % 2))


def test_the_seeds_meet_what_disputes_can_come_to() -> None:
    """Verdicts both ways, lifted challenges, governance mode entered and left, pardons, orphans: the scenario is worth its time."""
    statuses: set[DisputeStatus] = set()
    met: set[str] = set()
    for seed in range(12):
        checkers = play_quietly(scenario, network_of(seed)).checkers
        votes, chain = model(checkers, "votes"), model(checkers, "chain")
        assert isinstance(votes, VotesAtRest)
        assert isinstance(chain, ChainAtRest)
        statuses |= {tally.state() for tally in votes.tallies.values()}
        met |= {"lifted"} if any(tally.lifted for tally in votes.tallies.values()) else set()
        met |= {"entered"} if chain.entries else set()
        met |= {"left"} if chain.entries and chain.frozen_at is None else set()
        met |= {"pardoned"} if chain.pardoned else set()
        met |= {"blacklisted"} if chain.blacklisted else set()
    assert statuses >= {DisputeStatus.CONFIRMED, DisputeStatus.CONCLUDED_FOR, DisputeStatus.CONCLUDED_AGAINST}
    assert met == {"lifted", "entered", "left", "pardoned", "blacklisted"}


def test_there_are_many_variants_and_each_has_its_scenario() -> None:
    assert len(VARIANTS) >= 20
    assert set(scenarios()) == {"disputes", *(f"disputes:{name}" for name in VARIANTS)}
    assert find_scenario("disputes:equivocating_voters").name == "disputes:equivocating_voters"
    with pytest.raises(UnknownScenario):
        find_scenario("disputes:honest_people")


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_variant_does_what_it_says_and_no_promise_breaks(name: str) -> None:
    for seed in (0, 1):
        network = play_quietly(Disputes(name), network_of(seed))
        assert honest_rows(network, "votes_db") >= honest_votes_of(seed)


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_nobody_may_say_leaves_every_row_as_it_is(name: str) -> None:
    traffic = Disputes(name).traffic(network_of(2), Random(2))
    assert any(s.sender == MALLORY for s in traffic)
    with_it, without = play_quietly(Disputes(name), network_of(2), traffic), played_plainly(2)
    for subsystem in ("votes_db", "chain_api"):
        assert rows(with_it, subsystem) == rows(without, subsystem)


@pytest.mark.full
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_variant_a_hundred_times(name: str) -> None:
    for seed in range(100):
        network = play_quietly(Disputes(name), network_of(seed))
        late = sessions_too_late(network) if name == "lying_node" else set[bytes]()
        wanted = {key for key in honest_votes_of(seed) if key[:4] not in late}
        assert honest_rows(network, "votes_db") >= wanted


@pytest.mark.full
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_variant_while_everything_goes_wrong(name: str) -> None:
    for seed in range(10):
        outcome = play(Case(seed=seed, scenario=f"disputes:{name}", nodes=1, hours=0.1, faults=100))
        assert outcome.violation is None, f"seed {seed}: {outcome.violation}"


def rows(network: QuietNetwork, subsystem: str) -> dict[str, list[tuple[bytes, bytes]]]:
    """All that a subsystem of the first node knows; of its framework's tables none."""
    process = next(p for p in network.processes if p.name == subsystem)
    tables = [table.name for table in process.engine.subsystem.declaration.tables]
    return {name: list(process.rows.scan(name, b"", None)) for name in tables}


def honest_rows(network: QuietNetwork, subsystem: str) -> set[bytes]:
    """The keys of the votes stored: session, candidate, validator."""
    return {key for key, _ in rows(network, subsystem)["votes"]}


def sessions_too_late(network: QuietNetwork) -> set[bytes]:
    """Those that had not begun when their votes came: true votes, told early by a node that lies, had frozen the chain by then."""
    process = next(p for p in network.processes if p.name == "votes_db")
    records = [decode_value(Record, data) for _, data in process.rows.scan(JOURNAL.name, b"", None)]
    places = [r.cause.sequence for r in records if r.result.code == "session_out_of_window" and r.cause.id.startswith(f"{process.node}-")]
    bundles = [decode(RegisterVote.spec, network.streams[process.node][place - 1].body) for place in places]
    return {bundle.session_index.to_bytes(4, "big") for bundle in bundles if isinstance(bundle, RegisterVote)}


def honest_votes_of(seed: int) -> set[bytes]:
    """Those that are stored when nobody is malicious."""
    return honest_rows(played_plainly(seed), "votes_db")


@functools.cache
def played_plainly(seed: int) -> QuietNetwork:
    plain = Disputes("awaited_usurpation")
    return play_quietly(plain, network_of(seed), [s for s in plain.traffic(network_of(seed), Random(seed)) if s.sender != MALLORY])


# ------------------------------------------------------------------------------------------------ the judges bite


class Lying:
    """AtRest whose answers to one query are changed."""

    def __init__(self, network: QuietNetwork, kind: type[Message], change: dict[str, object]) -> None:
        self.network = network.network
        self.outstanding = network.outstanding
        self._network = network
        self._kind = kind
        self._change = change

    def store(self, node: str, subsystem: str):
        return self._network.store(node, subsystem)

    def stream(self, node: str):
        return self._network.stream(node)

    def ask(self, node: str, query: Message) -> Message:
        answer = self._network.ask(node, query)
        return msgspec.structs.replace(answer, **self._change) if type(answer) is self._kind else answer


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (VotesSnapshot, {"status": DisputeStatus.NONE}),
        (VotesSnapshot, {"votes": []}),
        (VotesSnapshot, {"pro": [0, 1, 2, 3]}),
        (BlacklistStatus, {"blacklisted": False}),
        (GovernanceReport, {"blacklisted": 99}),
    ],
)
def test_an_answer_that_is_not_true_is_noticed(kind: type[Message], change: dict[str, object]) -> None:
    network = play_quietly(scenario, network_of(6))
    checkers = network.checkers
    lie: AtRest = Lying(network, kind, change)
    assert isinstance(network.ask("n1", GovernanceStatus()), GovernanceReport)
    assert isinstance(network.ask("n1", IsBlacklisted(hash=next(iter(model(checkers, "chain").blocks)))), BlacklistStatus)

    def judge() -> None:
        for checker in checkers:
            checker.at_rest(lie)

    with pytest.raises(Violation):
        judge()
