"""`peer_proofs`, `peer_verify`, `peer_network`: proofs of storage made and verified, and simulated networks.

Proofs are made and verified over the tables of a real store, and over tokens in memory. The limit does what cannot be done without, by
bare calls on the same keys: the hash, the seeks of ten tokens, and the steps that tell how dense the store is; for a verification the
look-ups of the eleven mappings.
"""

import struct
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from blake3 import blake3
from rocksdict import Rdict, ReadOptions

from messages.peers import TokenMapping
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.ports.store import StoreIdentity
from overseer.rocks.options import open_rocks
from overseer.rocks.store import RocksStore
from overseer.simulation.peers.network import PeerNetwork
from overseer.simulation.peers.plan import NetworkPlan
from overseer.tables import Overlay, Tables, View
from subsystems.elections.peers.clusters import Response, Single
from subsystems.elections.peers.clusters import judged as decided
from subsystems.elections.peers.proof import CHUNKS, flaw_of, prove, sound
from subsystems.elections.peers.tokens import (
    LOW_BITS,
    SPACING_SAMPLE,
    SUFFIXES,
    TOKEN_BLOCKS,
    TOKEN_RING,
    MemoryTokens,
    TableTokens,
    Tokens,
    low,
    put_token,
)

__all__ = ["peer_network", "peer_proofs", "peer_verify"]

_TABLES = [TOKEN_BLOCKS.name, TOKEN_RING.name]
# Tokens written in one commit.
_COMMIT = 10_000
_SIDE = CHUNKS // 2
_WORDS = struct.Struct("<3Q")
# Responders of an election: as many as there may be.
_RESPONDERS = 10
_TARGET_TABLES, _TARGET_MEMORY, _TARGET_CLUSTERS = 0.15, 0.12, 0.40
# Seconds of a network's time for a second of the processor.
_TARGET_NETWORK = 3

Challenges = Sequence[tuple[int, int]]


def _opened(folder: Path) -> RocksStore:
    return RocksStore.open(folder, tables=_TABLES, identity=StoreIdentity(node="bench", subsystem="elections"))


async def _stored(folder: Path, count: int) -> list[TokenMapping]:
    """Tokens, in a store that is closed again."""
    random = Random(7)
    mappings = [TokenMapping(random.getrandbits(64), random.getrandbits(64)) for _ in range(count)]
    store = _opened(folder)
    for at in range(0, count, _COMMIT):
        writes = Overlay(store)
        tables = Tables(writes)
        for mapping in mappings[at : at + _COMMIT]:
            put_token(tables, mapping)
        await store.commit(writes)
    store.close()
    return mappings


def _challenges(held: MemoryTokens, mappings: list[TokenMapping], number: int, count: int) -> Challenges:
    """Challengers and tokens with a sound proof; others in each round."""
    random = Random(number)
    found: list[tuple[int, int]] = []
    while len(found) < count:
        challenge = random.getrandbits(64), random.choice(mappings).id
        if sound(held, *challenge) is not None:
            found.append(challenge)
    return found


def _rate(work: Callable[[int, int], object], challenges: Challenges) -> float:
    """How many of them in a second of the processor: others use it too."""
    began = time.process_time()
    for challenger, token in challenges:
        work(challenger, token)
    return len(challenges) / (time.process_time() - began)


# ------------------------------------------------------------------------------------------------ proofs


async def peer_proofs(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    """Proofs as a node makes them for others: found, and looked at as their verifier will."""
    return await _measured(folder, sizes, report, "peer_proofs", "proofs of storage", _proving, _BareTables.prove, _BareMemory.prove)


async def peer_verify(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    """Proofs verified by who holds the same; and what ten answers come to."""
    measures = await _measured(folder, sizes, report, "peer_verify", "proofs verified", _verifying, _BareTables.verify, _BareMemory.verify)
    report("clusters of ten responders")
    return [*measures, _clusters(sizes)]


async def _measured(
    folder: Path,
    sizes: Sizes,
    report: Report,
    name: str,
    what: str,
    ours: Callable[[Tokens, Challenges], Callable[[int, int], object]],
    bare_tables: Callable[["_BareTables", int, int], object],
    bare_memory: Callable[["_BareMemory", int, int], object],
) -> list[Measure]:
    report(f"storing {sizes.peer_tokens} tokens")
    mappings = await _stored(folder, sizes.peer_tokens)
    memory, bare = MemoryTokens(mappings), _BareMemory(mappings)
    in_memory: list[tuple[float, float]] = []
    in_tables: list[tuple[float, float]] = []
    for number in range(sizes.rounds):
        report(f"round {number + 1} of {sizes.rounds}")
        challenges = _challenges(memory, mappings, number, sizes.peer_proofs)
        in_memory.append((_rate(ours(memory, challenges), challenges), _rate(partial(bare_memory, bare), challenges)))
        # One process has a store open once; both find it as it is on disk.
        store = _opened(folder)
        rate = _rate(ours(TableTokens(View(store)), challenges), challenges)
        store.close()
        raw = _BareTables(folder)
        in_tables.append((rate, _rate(partial(bare_tables, raw), challenges)))
        raw.close()
    return [
        judged(
            name,
            f"{what} over the tables of a store of {sizes.peer_tokens} tokens",
            in_tables,
            unit="1/s",
            limited_by="one bare BLAKE3, and RocksDB's iterators and look-ups of the same keys by bare calls",
            target=_TARGET_TABLES,
        ),
        judged(
            f"{name}_memory",
            f"{what} over as many tokens in memory",
            in_memory,
            unit="1/s",
            limited_by="one bare BLAKE3, and bisections and look-ups of the same keys",
            target=_TARGET_MEMORY,
        ),
    ]


def _proving(tokens: Tokens, challenges: Challenges) -> Callable[[int, int], object]:
    return lambda challenger, token: sound(tokens, challenger, token)


def _verifying(tokens: Tokens, challenges: Challenges) -> Callable[[int, int], object]:
    proofs = {each: prove(tokens, *each) for each in challenges}

    def verify(challenger: int, token: int) -> None:
        proof = proofs[challenger, token]
        assert proof is not None
        flaw = flaw_of(proof[1], challenger=challenger, answer=proof[0], tokens=tokens, familiar_min=3)
        assert flaw is None

    return verify


def _hashed(challenger: int, token: int, block: int) -> list[int]:
    bits = int.from_bytes(blake3(_WORDS.pack(challenger, token, block)).digest(), "little")
    return [bits >> (LOW_BITS * n) & (SUFFIXES - 1) for n in range(CHUNKS)]


class _BareTables:
    """The same reads as bare calls: one iterator for each table and proof."""

    def __init__(self, folder: Path) -> None:
        self._db: Rdict = open_rocks(str(folder), _TABLES, create=False)
        self._blocks: Any = self._db.get_column_family(TOKEN_BLOCKS.name)
        self._ring: Any = self._db.get_column_family(TOKEN_RING.name)

    def prove(self, challenger: int, token: int) -> None:
        # A number of 64 bits in CBOR: behind one byte.
        block = int.from_bytes(self._blocks.get((low(token) << 64 | token).to_bytes(10, "big"))[1:], "big")
        wanted = _hashed(challenger, token, block)
        iterator = self._blocks.iter(ReadOptions())
        at = token
        for n, bits in enumerate(wanted):
            at = token if n == _SIDE else at
            key = (bits << 64 | at).to_bytes(10, "big")
            if n < _SIDE:
                iterator.seek(key)
            else:
                iterator.seek_for_prev(key)
            if iterator.valid():
                at = int.from_bytes(iterator.key()[2:], "big")
                iterator.value()
        self._walk(token)

    def verify(self, challenger: int, token: int) -> None:
        key = (low(token) << 64 | token).to_bytes(10, "big")
        _hashed(challenger, token, 0)
        for _ in range(CHUNKS + 1):
            self._blocks.get(key)
        self._walk(token)

    def _walk(self, token: int) -> None:
        """How dense the store is here."""
        iterator = self._ring.iter(ReadOptions())
        for step, seek in ((iterator.next, iterator.seek), (iterator.prev, iterator.seek_for_prev)):
            seek(token.to_bytes(8, "big"))
            for _ in range(SPACING_SAMPLE // 2):
                if iterator.valid():
                    iterator.key()
                    step()

    def close(self) -> None:
        self._blocks = self._ring = None
        self._db.close()


class _BareMemory:
    """The same as bisections of sorted lists."""

    def __init__(self, mappings: list[TokenMapping]) -> None:
        self._blocks = {mapping.id: mapping.block for mapping in mappings}
        self._ring = sorted(self._blocks)
        self._suffixes: list[list[int]] = [[] for _ in range(SUFFIXES)]
        for token in self._ring:
            self._suffixes[low(token)].append(token)

    def prove(self, challenger: int, token: int) -> None:
        for bits in _hashed(challenger, token, self._blocks[token]):
            tokens = self._suffixes[bits]
            _ = self._blocks[tokens[bisect_left(tokens, token) - 1]]
        self._walk(token)

    def verify(self, challenger: int, token: int) -> None:
        _hashed(challenger, token, self._blocks[token])
        for _ in range(CHUNKS + 1):
            _ = self._blocks[token]
        self._walk(token)

    def _walk(self, token: int) -> None:
        at = bisect_left(self._ring, token)
        _ = self._ring[at - _SIDE], self._ring[(at + _SIDE) % len(self._ring)]


# ------------------------------------------------------------------------------------------------ clusters


def _clusters(sizes: Sizes) -> Measure:
    """Ten answers in three camps that overlap: the graph has several maximal cliques."""
    random = Random(3)
    all_of = [TokenMapping(random.getrandbits(64), random.getrandbits(64)) for _ in range(40)]
    responses = [
        Response(random.getrandbits(64), all_of[0], tuple(all_of[n // 4 * 10 + n % 4 // 2 : n // 4 * 10 + n % 4 // 2 + 10]))
        for n in range(_RESPONDERS)
    ]
    pairs: list[tuple[float, float]] = []
    for _ in range(sizes.rounds):
        began = time.process_time()
        for _ in range(sizes.peer_proofs):
            assert isinstance(decided(responses, 5, threshold=8, size_min=2, majority_percent=40), Single)
        ours = sizes.peer_proofs / (time.process_time() - began)
        began = time.process_time()
        for _ in range(sizes.peer_proofs):
            for a in range(_RESPONDERS):
                for b in range(a):
                    _ = len({*responses[a].mappings} & {*responses[b].mappings})
        pairs.append((ours, sizes.peer_proofs / (time.process_time() - began)))
    return judged(
        "peer_clusters",
        "elections of ten responders decided: agreement, cliques, majority, winner",
        pairs,
        unit="1/s",
        limited_by="the 45 comparisons of two sets of ten alone",
        target=_TARGET_CLUSTERS,
    )


# ------------------------------------------------------------------------------------------------ networks


async def peer_network(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    """A network in virtual time."""
    report(f"a network of {sizes.peer_peers} peers")
    network = PeerNetwork(NetworkPlan(seed=1, peers=sizes.peer_peers, contacts=50))
    until_ms = sizes.peer_minutes * 60_000
    began = time.process_time()
    network.run(until_ms)
    spent = time.process_time() - began
    told = network.report()
    assert told.elections > 0
    return [
        judged(
            "peer_network",
            f"seconds of the time of {sizes.peer_peers} peers, an election of each a minute, simulated in a second of one processor",
            [(until_ms / 1000 / spent, 1.0)],
            unit="s/s",
            limited_by="real time",
            target=_TARGET_NETWORK,
        ),
        judged(
            "peer_network_election",
            f"processor time of one election of {told.messages_per_election} messages, of all who take part in it",
            [(1e6 * spent / told.elections, 8_000.0)],
            unit="us",
            limited_by="0.1 % of the eight seconds that it may take",
            target=1.0,
            at_most=True,
        ),
    ]
