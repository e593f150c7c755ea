"""Signature checks: the answers, the memo, and a pool that may break in every way and still answers right."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec
import pytest
import sr25519
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from overseer.check_worker import HEADER, verify_packed
from overseer.checks import Facts, InlineVerifier, Memo, PoolLimits, PoolVerifier, Verifier
from overseer.pool import pack, worker_command
from overseer.subsystem import Check
from overseer.verification import verify_check

ROOT = Path(__file__).resolve().parents[1]
PAIR = sr25519.pair_from_seed(bytes(32))
SIGNER = SigningKey(bytes(range(32)))
# A loaded machine may take its time: where a test is about being late, it says so itself.
LIMITS = PoolLimits(answer_timeout_ms=60_000, restart_ms=1, restart_ms_max=20, close_timeout_ms=5_000)


def sr(message: bytes) -> Check:
    return Check("sr25519", PAIR[0], message, sr25519.sign(PAIR, message))


def ed(message: bytes) -> Check:
    return Check("ed25519", bytes(SIGNER.verify_key), message, SIGNER.sign(message).signature)


GOOD = [sr(b"vote"), ed(b"vote"), sr(b""), ed(b"")]
BAD = [
    sr(b"vote")._replace(message=b"note"),
    ed(b"vote")._replace(message=b"note"),
    sr(b"vote")._replace(key=bytes(32)),
    sr(b"vote")._replace(key=b"\xff" * 32),
    ed(b"vote")._replace(key=b"\xff" * 32),
    sr(b"vote")._replace(signature=bytes(64)),
    sr(b"vote")._replace(signature=b"\xff" * 64),
    ed(b"vote")._replace(signature=bytes(64)),
    sr(b"vote")._replace(scheme="ed25519"),
    ed(b"vote")._replace(scheme="sr25519"),
    sr(b"vote")._replace(scheme="ecdsa"),
    sr(b"vote")._replace(scheme=""),
    *[sr(b"vote")._replace(signature=bytes(n)) for n in (0, 63, 65, 128)],
    *[ed(b"vote")._replace(key=bytes(n)) for n in (0, 31, 33, 64)],
    Check("sr25519", b"", b"", b""),
]


def many(count: int, salt: str = "") -> list[Check]:
    """Distinct checks, mixed: every seventh wrong, every fifth Ed25519."""
    checks = [(ed if n % 5 == 0 else sr)(f"{salt}{n}".encode()) for n in range(count)]
    return [check._replace(message=b"other") if n % 7 == 0 else check for n, check in enumerate(checks)]


def wanted(count: int) -> list[bool]:
    return [n % 7 != 0 for n in range(count)]


@pytest.fixture
async def pool() -> AsyncIterator[PoolVerifier]:
    verifier = PoolVerifier(2, limits=LIMITS)
    yield verifier
    await verifier.close()


async def until(reached: Callable[[], bool]) -> None:
    """Wait for a condition, half a minute at most."""
    with anyio.fail_after(30):
        while not reached():
            await anyio.sleep(0.002)


def test_good_signatures_verify_and_everything_else_is_false_never_an_error() -> None:
    assert [verify_check(check) for check in GOOD] == [True] * len(GOOD)
    assert [verify_check(check) for check in BAD] == [False] * len(BAD)


@given(check=st.builds(Check, st.sampled_from(["sr25519", "ed25519", "x"]), st.binary(), st.binary(), st.binary()))
def test_arbitrary_bytes_are_false(check: Check) -> None:
    assert verify_check(check) is False


def test_flipped_bits_anywhere_are_false() -> None:
    flips = random.Random(1)
    for check in (sr(b"vote"), ed(b"vote")):
        for field in ("key", "message", "signature"):
            for _ in range(40):
                data = bytearray(getattr(check, field))
                data[flips.randrange(len(data))] ^= 1 << flips.randrange(8)
                assert verify_check(check._replace(**{field: bytes(data)})) is False


@given(picked=st.lists(st.sampled_from([c for c in GOOD + BAD if pack([c], 100) is not None]), min_size=1, max_size=20))
def test_packed_checks_get_the_same_answers(picked: list[Check]) -> None:
    request = pack(picked, 100)
    assert request is not None
    count, message_bytes = HEADER.unpack_from(request)
    assert message_bytes == sum(len(check.message) for check in picked)
    assert verify_packed(count, request[HEADER.size :]) == bytes(verify_check(check) for check in picked)


def test_a_memo_answers_from_facts_and_computes_what_is_missing_once() -> None:
    right, wrong = sr(b"right"), sr(b"wrong")._replace(message=b"x")
    memo = Memo([right, right])
    assert memo.missing() == [right]
    memo.learn([right], [False])
    assert (memo.verify(right), memo.missed) == (False, 0), "a fact is believed"
    assert (memo.verify(wrong), memo.verify(wrong), memo.missed) == (False, False, 1)


def test_shared_facts_are_bounded_and_forget_the_oldest() -> None:
    facts = Facts(10)
    checks = [Check("x", b"", bytes([n]), b"") for n in range(40)]
    for check in checks:
        facts.put(check, True)
    known = [n for n, check in enumerate(checks) if facts.get(check)]
    assert known == list(range(20, 40))


@pytest.mark.anyio
@pytest.mark.parametrize("verifier", [InlineVerifier(), InlineVerifier(remember=10)], ids=["inline", "remembering"])
async def test_inline_checks_get_the_same_answers(verifier: Verifier) -> None:
    checks = many(60)
    assert list((await verifier.verify_all(checks)).values()) == wanted(60)
    memo = verifier.ahead(checks)
    await memo.ready()
    assert [memo.verify(check) for check in checks] == wanted(60)
    assert [verifier.inline(check) for check in checks[:10]] == wanted(10)
    await verifier.close()


def test_remembered_facts_serve_other_memos() -> None:
    verifier = InlineVerifier(remember=100)
    check = sr(b"once")
    verifier.ahead([]).verify(check)
    began = time.process_time()
    for _ in range(500):
        assert verifier.ahead([]).verify(check)
    assert time.process_time() - began < 500 * 20e-6, "500 checks would take 20 ms"


@pytest.mark.anyio
async def test_the_pool_answers_as_inline_does_for_every_number_of_checks(pool: PoolVerifier) -> None:
    checks = many(700)
    for count in (0, 1, 3, 4, 5, 63, 257, 700):
        memo = pool.ahead(checks[:count])
        await memo.ready()
        missed = memo.missed
        assert [memo.verify(check) for check in checks[:count]] == wanted(count)
        assert memo.missed - missed == (count if count < LIMITS.checks_min else 0)
    assert await pool.verify_all(checks) == dict(zip(checks, wanted(700), strict=True))
    assert pool.pool.losses == 0


@pytest.mark.anyio
async def test_malformed_and_oversized_checks_do_not_keep_their_neighbours_out(pool: PoolVerifier) -> None:
    big = sr(bytes(LIMITS.message_bytes_max + 1))
    checks = [*many(40), *BAD, *GOOD, big]
    answers = await pool.verify_all(checks)
    assert [answers[check] for check in checks] == [*wanted(40), *[False] * len(BAD), *[True] * len(GOOD), True]
    assert pool.pool.losses == 0


@pytest.mark.anyio
async def test_the_same_check_many_times_is_computed_once(pool: PoolVerifier) -> None:
    check = sr(b"one")
    memo = pool.ahead([check] * 1000)
    assert memo.missing() == [check]
    assert await pool.verify_all([check] * 1000) == {check: True}


@pytest.mark.anyio
async def test_nothing_is_started_before_the_first_checks_worth_it(pool: PoolVerifier) -> None:
    pool.ahead(many(3))
    assert pool.pool.process_ids == []
    await pool.ahead(many(10)).ready()
    assert len(pool.pool.process_ids) == 2


@pytest.mark.anyio
async def test_workers_are_small(pool: PoolVerifier) -> None:
    await pool.ahead(many(100)).ready()
    assert all(private_kb(pid) < 10_000 for pid in pool.pool.process_ids)


def private_kb(pid: int) -> int:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0])


def test_a_worker_imports_nothing_of_the_rest_of_the_system() -> None:
    code = "import sys; import overseer.check_worker; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = run.stdout.split()
    assert "overseer.check_worker" in loaded
    assert not {"asyncio", "msgspec", "cbor2", "overseer.subsystem", "messages", "rocksdict", "nats"} & set(loaded)


@pytest.mark.anyio
async def test_many_callers_share_the_workers_and_each_gets_its_own(pool: PoolVerifier) -> None:
    async def ask(salt: str, count: int) -> None:
        answers = await pool.verify_all(many(count, salt))
        assert list(answers.values()) == wanted(count)

    async with anyio.create_task_group() as tasks:
        for n in range(12):
            tasks.start_soon(ask, f"caller {n} ", 20 + 17 * n)


@pytest.mark.anyio
async def test_what_exceeds_the_queue_is_computed_inline_and_verify_all_goes_on_in_steps() -> None:
    verifier = PoolVerifier(1, limits=PoolLimits(queued_checks_max=50, chunk_checks_max=10))
    try:
        checks = many(220)
        memo = verifier.ahead(checks)
        await memo.ready()
        assert len(memo.missing()) == 170
        assert [memo.verify(check) for check in checks] == wanted(220)
        assert list((await verifier.verify_all(checks)).values()) == wanted(220)
    finally:
        await verifier.close()


@pytest.mark.anyio
@pytest.mark.parametrize("killed", [1, 2])
async def test_killed_workers_cost_nothing_but_time_and_are_replaced(pool: PoolVerifier, killed: int) -> None:
    await pool.ahead(many(10)).ready()
    before = set(pool.pool.process_ids)
    memo = pool.ahead(many(600))
    for pid in list(before)[:killed]:
        os.kill(pid, signal.SIGKILL)
    with anyio.fail_after(30):
        await memo.ready()
    assert [memo.verify(check) for check in many(600)] == wanted(600)
    await until(lambda: pool.pool.losses == killed)

    def whole_again() -> bool:
        pool.ahead(many(4))
        return len(set(pool.pool.process_ids) - before) == killed and len(pool.pool.process_ids) == 2

    await until(whole_again)
    assert list((await pool.verify_all(many(300))).values()) == wanted(300)


@pytest.mark.anyio
async def test_a_worker_that_hangs_is_given_up_in_time(pool: PoolVerifier) -> None:
    await pool.ahead(many(10)).ready()
    stopped = pool.pool.process_ids
    pool.pool.limits = msgspec.structs.replace(LIMITS, answer_timeout_ms=200)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with anyio.fail_after(30):
        assert list((await pool.verify_all(many(100))).values()) == wanted(100)
    assert pool.pool.losses == 2
    await until(lambda: not any(alive(pid) for pid in stopped))


def alive(pid: int) -> bool:
    """Not even a zombie."""
    return Path(f"/proc/{pid}").exists()


@pytest.mark.anyio
async def test_a_worker_that_talks_nonsense_is_not_believed(pool: PoolVerifier) -> None:
    code = "import socket; s = socket.socket(fileno=0); s.recv(1); s.sendall(bytes([7]) * 1000); s.recv(1 << 20); s.recv(1)"
    pool.pool.command = [sys.executable, "-c", code]
    with anyio.fail_after(30):
        assert list((await pool.verify_all(many(50))).values()) == wanted(50)
    assert pool.pool.losses >= 1


@pytest.mark.anyio
@pytest.mark.parametrize("command", [["/nowhere/python"], [sys.executable, "-c", "raise SystemExit(1)"]], ids=["missing", "failing"])
async def test_workers_that_cannot_start_leave_everything_inline_and_are_tried_ever_less_often(
    pool: PoolVerifier, command: list[str]
) -> None:
    pool.pool.command = command
    with anyio.fail_after(30):
        for _ in range(3):
            assert list((await pool.verify_all(many(30))).values()) == wanted(30)
    pool.pool.command = worker_command()
    with anyio.fail_after(30):
        while True:
            # Those of the other command may still have to be found dead.
            memo = pool.ahead(many(100))
            await memo.ready()
            if not memo.missing():
                break
            await anyio.sleep(0.002)
    assert len(pool.pool.process_ids) == 2


@pytest.mark.anyio
async def test_closing_leaves_no_process_and_later_checks_are_inline(pool: PoolVerifier) -> None:
    await pool.ahead(many(10)).ready()
    pids = pool.pool.process_ids
    memo = pool.ahead(many(2000))
    await pool.close()
    await pool.close()
    assert not any(alive(pid) for pid in pids)
    with anyio.fail_after(30):
        await memo.ready()
    assert memo.verify(sr(b"1"))
    assert list((await pool.verify_all(many(30))).values()) == wanted(30)
    assert pool.pool.process_ids == []


@pytest.mark.anyio
async def test_closing_a_pool_that_was_never_used_or_only_just_started(pool: PoolVerifier) -> None:
    await PoolVerifier(2).close()
    pool.ahead(many(10))
    pids = pool.pool.process_ids
    await pool.close()
    assert not any(alive(pid) for pid in pids)


@pytest.mark.anyio
async def test_the_event_loop_stays_alive_while_much_is_verified(pool: PoolVerifier) -> None:
    await pool.ahead(many(10)).ready()
    checks = many(3000)
    gaps: list[float] = []
    done = anyio.Event()

    async def watch() -> None:
        last = time.monotonic()
        while not done.is_set():
            await anyio.lowlevel.checkpoint()
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await pool.verify_all(checks)
        done.set()
    assert len(gaps) > 20
    assert sorted(gaps)[len(gaps) // 2] < 0.02


PARENT = """
import asyncio, sys
from tests.test_checks import PoolVerifier, many

async def main():
    verifier = PoolVerifier(2)
    await verifier.ahead(many(10)).ready()
    print(*verifier.pool.process_ids, flush=True)
    checks = many(3000)
    while True:
        await verifier.ahead(checks).ready()

asyncio.run(main())
"""


def test_no_worker_outlives_a_parent_killed_in_the_middle_of_work() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    parent.kill()
    parent.wait()
    parent.stdout.close()

    def ended(pid: int) -> bool:
        # An orphan may stay a zombie where nobody reaps, as in a container.
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    anyio.run(until, lambda: all(ended(pid) for pid in pids))
