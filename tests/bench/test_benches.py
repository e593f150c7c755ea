"""Every bench in its smallest form: that it runs, and what it prints. Whether targets are met depends on the machine."""

import json
from pathlib import Path

import pytest

from overseer.bench.catalogue import BENCHES, run_benches
from overseer.bench.measure import Measure, Sizes, judged
from overseer.cli import bench as command
from overseer.cli.app import run_app

pytestmark = pytest.mark.real

SMALLEST = Sizes(
    rounds=1,
    commands=100,
    bundle_votes=20,
    bundles=2,
    single_voters=10,
    single_candidates=2,
    bare_checks_s=0.05,
    descendants=100,
    cascades=1,
    grown_disputes=2,
    grown_early=3,
    grown_late=12,
    grown_votes=2,
    stored_few=40,
    stored_many=200,
    stored_bundles=2,
    idle_s=0.5,
    polls=5,
    ballots_s=0.5,
    bare_appends_s=0.2,
    kills=1,
    recovered_events=500,
    queue_items=20,
    queue_gateways=10,
    queue_few=10,
    queue_many=100,
    queue_votes=20,
    closes=1,
    signed_blocks=1,
    network_interval_ms=200,
    network_epochs=1,
    peer_tokens=20_000,
    peer_proofs=10,
    peer_peers=10,
    peer_minutes=1,
)

DKG_PARTS = ("deal", "receive", "confirm", "all", "node", "messages", "bytes")

MEASURES = {
    "commands_durable": {"commands_durable"},
    "votes_bundled": {"votes_bundled"},
    "votes_single": {"votes_single"},
    "cascade": {"cascade", "cascade_answers"},
    "growth": {"growth", "growth_stored"},
    "idle": {"idle", "idle_memory"},
    "ballots_one_site": {"ballots_one_site"},
    "ballots_five_sites": {"ballots_five_sites", "ballots_five_sites_unbatched"},
    "ballots_failover": {"ballots_failover", "ballots_failover_median"},
    "ballots_recovery": {
        "ballots_recovery",
        "ballots_recovery_longest",
        "ballots_recovery_copy",
        "ballots_recovery_memory",
        "ballots_recovery_warm",
    },
    "gateway_votes": {"gateway_votes", "gateway_votes_growth"},
    "gateway_close": {"gateway_close"},
    **{f"dkg_{size}": {f"dkg_{size}_{part}" for part in DKG_PARTS} for size in (4, 16, 43)},
    "block_signing": {f"block_signing_{size}{limit}" for size in (4, 16, 43) for limit in ("", "_least", "_wrong")},
    "election_testnet": {"election_testnet", "election_testnet_blocks", "election_testnet_rate"},
    "peer_proofs": {"peer_proofs", "peer_proofs_memory"},
    "peer_verify": {"peer_verify", "peer_verify_memory", "peer_clusters"},
    "peer_network": {"peer_network", "peer_network_election"},
}

# Those that start several processes take their time.
MARKS = {
    "idle": pytest.mark.slow,
    "ballots_recovery": pytest.mark.slow,
    "ballots_five_sites": pytest.mark.full,
    "ballots_failover": pytest.mark.full,
    "election_testnet": pytest.mark.full,
}


def test_the_command_knows_every_bench_without_loading_them() -> None:
    assert tuple(BENCHES) == command.NAMES == tuple(MEASURES)


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in MEASURES])
@pytest.mark.anyio
async def test_a_bench_measures_and_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    told: list[str] = []
    measures = [m async for m in run_benches([name], SMALLEST, told.append, folder=tmp_path)]
    assert {m.name for m in measures} == MEASURES[name]
    for measure in measures:
        # An idle node may take no time that can be measured; all else does something.
        assert measure.value > 0 or name == "idle"
        assert measure.limit > 0
        assert measure.ratio == pytest.approx(measure.value / measure.limit)
        assert measure.ok == (measure.ratio <= measure.target if measure.at_most else measure.ratio >= measure.target)
    assert told
    assert all(text.startswith(f"{name}: ") for text in told)
    assert list(tmp_path.iterdir()) == []


def judge(pairs: list[tuple[float, float]], *, at_most: bool = False) -> Measure:
    return judged("x", "what", pairs, unit="1/s", limited_by="limit", target=0.5, at_most=at_most)


def test_a_ratio_is_the_median_of_the_rounds_so_that_one_disturbed_round_does_not_count() -> None:
    measure = judge([(60, 100), (5, 50), (120, 200)])
    assert (measure.value, measure.limit, measure.ratio) == (60, 100, 0.6)
    assert measure.ok
    assert not judge([(40, 100)]).ok


def test_a_target_may_be_the_most_that_is_allowed() -> None:
    assert judge([(40, 100)], at_most=True).ok
    assert not judge([(60, 100)], at_most=True).ok


def test_json_has_a_list_of_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("overseer.bench.catalogue.QUICK", SMALLEST)
    assert run_app(["bench", "commands_durable", "--quick", "--json", "--folder", str(tmp_path)]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert {"name", "value", "unit", "limit", "ratio", "target", "ok"} <= set(shown)
    assert shown["name"] == "commands_durable"


def test_a_table_is_for_people_and_check_fails_when_a_target_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def hopeless(folder: Path, sizes: Sizes, report: object) -> list[Measure]:
        return [judge([(1, 100)])]

    monkeypatch.setitem(BENCHES, "commands_durable", hopeless)
    assert run_app(["bench", "commands_durable", "--folder", str(tmp_path)]) == 0
    assert "missed" in capsys.readouterr().out
    assert run_app(["bench", "commands_durable", "--check", "--folder", str(tmp_path)]) == 1


def test_an_unknown_bench_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["bench", "speed"]) == 2
    assert "speed" in capsys.readouterr().err
