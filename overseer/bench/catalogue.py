"""All benches by name, and running some of them in temporary folders."""

import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

from overseer.bench.cascade import cascade
from overseer.bench.commands import commands_durable
from overseer.bench.dkg import DKG_BENCHES
from overseer.bench.elections import ballots_five_sites, ballots_one_site
from overseer.bench.failover import ballots_failover
from overseer.bench.gateways import gateway_close, gateway_votes
from overseer.bench.growth import growth
from overseer.bench.idle import idle
from overseer.bench.measure import Measure, Report, Sizes
from overseer.bench.network import election_testnet
from overseer.bench.peers import peer_network, peer_proofs, peer_verify
from overseer.bench.recovery import ballots_recovery
from overseer.bench.signing import block_signing
from overseer.bench.votes import votes_bundled, votes_single

__all__ = ["BENCHES", "QUICK", "Bench", "run_benches"]

# Works in a folder that is its own and not there yet; says what it is doing.
Bench = Callable[[Path, Sizes, Report], Awaitable[list[Measure]]]

BENCHES: dict[str, Bench] = {
    "commands_durable": commands_durable,
    "votes_bundled": votes_bundled,
    "votes_single": votes_single,
    "cascade": cascade,
    "growth": growth,
    "idle": idle,
    "ballots_one_site": ballots_one_site,
    "ballots_five_sites": ballots_five_sites,
    "ballots_failover": ballots_failover,
    "ballots_recovery": ballots_recovery,
    "gateway_votes": gateway_votes,
    "gateway_close": gateway_close,
    **DKG_BENCHES,
    "block_signing": block_signing,
    "election_testnet": election_testnet,
    "peer_proofs": peer_proofs,
    "peer_verify": peer_verify,
    "peer_network": peer_network,
}

QUICK = Sizes(
    rounds=3,
    commands=10_000,
    bundles=20,
    single_candidates=4,
    bare_checks_s=0.5,
    descendants=20_000,
    cascades=3,
    grown_disputes=50,
    stored_many=100_000,
    stored_bundles=15,
    idle_s=5.0,
    ballots_s=2.0,
    bare_appends_s=1.0,
    kills=3,
    recovered_events=50_000,
    queue_items=1_000,
    queue_many=100_000,
    queue_votes=2_000,
    signed_blocks=2,
    network_epochs=2,
    peer_tokens=50_000,
    peer_proofs=200,
    peer_minutes=1,
)


async def run_benches(names: Sequence[str], sizes: Sizes, report: Report, *, folder: Path | None = None) -> AsyncGenerator[Measure, None]:
    """Measure one after the other; everything is done in a folder under `folder` (default: the system's) that is gone afterwards."""
    for name in names:
        with tempfile.TemporaryDirectory(prefix="overseer-bench-", dir=folder) as own:
            for measure in await BENCHES[name](Path(own) / name, sizes, lambda text, name=name: report(f"{name}: {text}")):
                yield measure
