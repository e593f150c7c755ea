"""Signature checks ahead of decisions: computed in parallel by worker processes into a memo of facts.

    memo = verifier.ahead(checks)     # at once: the workers begin
    await memo.ready()                # when all of it that was taken on is known, or given up
    context.verify = memo.verify      # asks the facts, computes inline what is missing

The answers are the same however they were computed; a broken pool only costs time.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from overseer.pool import CheckPool, PoolLimits
from overseer.subsystem import Check
from overseer.verification import verify_check

__all__ = ["InlineVerifier", "Memo", "PoolLimits", "PoolVerifier", "Verifier"]


class Memo:
    """Facts about checks. `verify` is the `Verify` callable of a decision's context."""

    def __init__(self, checks: Iterable[Check] = (), *, shared: "Facts | None" = None) -> None:
        # None: not known (yet).
        self._facts: dict[Check, bool | None] = dict.fromkeys(checks)
        self._shared = shared
        self._unanswered = 0
        self._ready: asyncio.Event | None = None
        # How many were asked for that had not been computed ahead: a subsystem's `checks` is then incomplete.
        self.missed = 0

    def verify(self, check: Check) -> bool:
        """Whether the signature verifies: from the facts, else computed here and kept."""
        fact = self._facts.get(check)
        if fact is None:
            fact = self._compute(check)
        return fact

    def missing(self) -> list[Check]:
        """What was announced and is not known, each once."""
        return [check for check, fact in self._facts.items() if fact is None]

    def learn(self, checks: Sequence[Check], answers: Iterable[bool]) -> None:
        """Take over facts; both in the same order."""
        self._facts.update(zip(checks, answers, strict=True))

    async def ready(self) -> None:
        """Return when no answer is outstanding."""
        while self._unanswered:
            if self._ready is None:
                self._ready = asyncio.Event()
            await self._ready.wait()

    def expect(self, chunks: int) -> None:
        """`chunks` answers will come, each by `answered`."""
        self._unanswered += chunks

    def answered(self, checks: Sequence[Check], answer: bytes | None) -> None:
        """One chunk's answer, a byte for each check; None when it was given up."""
        if answer is not None:
            self.learn(checks, map(bool, answer))
        self._unanswered -= 1
        if not self._unanswered and self._ready is not None:
            self._ready.set()
            self._ready = None

    def _compute(self, check: Check) -> bool:
        self.missed += 1
        fact = self._shared.get(check) if self._shared is not None else None
        if fact is None:
            fact = verify_check(check)
            if self._shared is not None:
                self._shared.put(check, fact)
        self._facts[check] = fact
        return fact


class Facts:
    """The latest facts, `capacity` to twice as many: two generations, the older dropped when the younger is full."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._young: dict[Check, bool] = {}
        self._old: dict[Check, bool] = {}

    def get(self, check: Check) -> bool | None:
        fact = self._young.get(check)
        return self._old.get(check) if fact is None else fact

    def put(self, check: Check, fact: bool) -> None:
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, {}
        self._young[check] = fact


class Verifier(Protocol):
    """Computes checks. All methods are for one event loop."""

    def ahead(self, checks: Sequence[Check]) -> Memo:
        """Begin to compute `checks`; the memo knows them once it is `ready`. Never waits, never fails."""
        ...

    async def verify_all(self, checks: Sequence[Check]) -> dict[Check, bool]:
        """Compute all of them; the event loop stays alive meanwhile."""
        ...

    def inline(self, check: Check) -> bool:
        """Compute one, here and now."""
        ...

    async def close(self) -> None:
        """Release everything; idempotent. Afterwards checks are computed inline."""
        ...


class InlineVerifier:
    """Without workers: a check is computed when it is asked for.

    `remember` keeps that many facts across memos (a simulation of many nodes checks the same signatures many times).
    """

    def __init__(self, *, remember: int = 0) -> None:
        self._facts = Facts(remember) if remember else None

    def ahead(self, checks: Sequence[Check]) -> Memo:
        return Memo(shared=self._facts)

    async def verify_all(self, checks: Sequence[Check]) -> dict[Check, bool]:
        memo = Memo(shared=self._facts)
        return await _completed(memo, checks)

    def inline(self, check: Check) -> bool:
        return Memo(shared=self._facts).verify(check)

    async def close(self) -> None:
        """Nothing is held."""


class PoolVerifier:
    """Checks in worker processes, one for each core by default: sr25519 holds the GIL, so threads would not help.

    The workers start with the first checks worth it. What the pool cannot take on (few checks, a full queue, a broken or
    restarting pool) is simply left to be computed inline.
    """

    def __init__(self, workers: int | None = None, *, limits: PoolLimits | None = None) -> None:
        """`workers`: processes, default one for each core this process may use."""
        self.pool = CheckPool(workers, limits or PoolLimits())

    def ahead(self, checks: Sequence[Check]) -> Memo:
        memo = Memo(checks)
        self.pool.submit(memo.missing(), memo)
        return memo

    async def verify_all(self, checks: Sequence[Check]) -> dict[Check, bool]:
        out: dict[Check, bool] = {}
        step = self.pool.limits.queued_checks_max
        for at in range(0, len(checks), step):
            memo = self.ahead(checks[at : at + step])
            await memo.ready()
            out.update(await _completed(memo, checks[at : at + step]))
        return out

    def inline(self, check: Check) -> bool:
        return verify_check(check)

    async def close(self) -> None:
        await self.pool.close()


# Inline checks between two turns of the event loop: about 1 ms.
_INLINE_SLICE = 25


async def _completed(memo: Memo, checks: Sequence[Check]) -> dict[Check, bool]:
    """The answers to `checks`, computing inline what the memo does not know."""
    out: dict[Check, bool] = {}
    missed = memo.missed
    for check in checks:
        out[check] = memo.verify(check)
        if memo.missed >= missed + _INLINE_SLICE:
            missed = memo.missed
            await asyncio.sleep(0)
    return out
