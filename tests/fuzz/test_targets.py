"""Every inlet under mutated input: its own named errors alone, in time, in bounds, and what it takes is what was meant."""

import functools
import os
import random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import mutated
from tests.fuzz.target import CORPUS, Slow, Target, Verdict, attempt, corpus, measured
from tests.fuzz.targets import TARGETS

CORPUS_FILES_MAX = 300
CORPUS_BYTES_MAX = 1024 * 1024
# Inputs for each target in the default run.
EXAMPLES = 40
SLOW_INPUTS = 5_000

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)


@functools.cache
def seeds_of(name: str) -> list[bytes]:
    return TARGETS[name].seeds()


def check(target: Target, data: bytes) -> None:
    judge(target, data, attempt(target, data))


def judge(target: Target, data: bytes, verdict: Verdict) -> None:
    if verdict.error is not None:
        raise AssertionError(f"{target.name}: {verdict.error!r} for {data!r}") from verdict.error


@every_target
def test_the_seeds_and_the_corpus_of_every_inlet_do_what_they_may(target: Target) -> None:
    for data in [*target.seeds(), *corpus(target), b""]:
        check(target, data)


@every_target
@settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
@given(seed=st.integers(0, 2**64 - 1))
def test_no_mutated_input_does_what_it_must_not(target: Target, seed: int) -> None:
    check(target, mutated(random.Random(seed), seeds_of(target.name), target.tokens, target.input_bytes_max))


@every_target
@settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True)
@given(data=st.binary(max_size=300))
def test_no_bytes_at_all_do_what_they_must_not(target: Target, data: bytes) -> None:
    check(target, data)


@pytest.mark.slow
@every_target
def test_no_input_of_a_new_seed_does_what_it_must_not_nor_takes_too_much_memory(target: Target) -> None:
    seed = int(os.environ.get("OVERSEER_TEST_FUZZ_SEED", random.SystemRandom().randrange(2**64)))
    print(f"OVERSEER_TEST_FUZZ_SEED={seed}")
    chance = random.Random(seed)
    seeds = target.seeds()
    for round_ in range(SLOW_INPUTS if target.name not in ("arguments", "config", "encode") else SLOW_INPUTS // 20):
        data = mutated(chance, seeds, target.tokens, target.input_bytes_max)
        if round_ % 50:
            check(target, data)
            continue
        verdict, allocated = measured(target, data)
        assert allocated < target.bytes_max, f"{target.name}: {allocated} bytes for {data!r}"
        if not isinstance(verdict.error, Slow):
            judge(target, data, verdict)


def test_the_corpus_stays_small() -> None:
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert len(sizes) < CORPUS_FILES_MAX
    assert sum(sizes) < CORPUS_BYTES_MAX
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)
