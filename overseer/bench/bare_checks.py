"""The limit of checking votes: sr25519 verifications and nothing else, in a process of its own for each core.

    python -m overseer.bench.bare_checks SECONDS    prints verifications per second

The message is as long as a vote's.
"""

import subprocess
import sys
import time

import anyio
import sr25519  # pyright: ignore[reportMissingTypeStubs]

__all__ = ["bare_checks", "main"]

_SIGNATURES = 200
_MESSAGE_BYTES = 41
# Between two looks at the clock.
_STEP = 20


async def bare_checks(processes: int, seconds: float) -> float:
    """Verifications per second of so many processes at once, together."""
    command = [sys.executable, "-m", "overseer.bench.bare_checks", str(seconds)]
    rates: list[float] = []

    async def one() -> None:
        done = await anyio.run_process(command, stderr=subprocess.PIPE)
        rates.append(float(done.stdout))

    async with anyio.create_task_group() as tasks:
        for _ in range(processes):
            tasks.start_soon(one)
    return sum(rates)


def main() -> None:
    seconds = float(sys.argv[1])
    signed: list[tuple[bytes, bytes, bytes]] = []
    for number in range(_SIGNATURES):
        pair: tuple[bytes, bytes] = sr25519.pair_from_seed(number.to_bytes(32, "big"))  # pyright: ignore
        message = number.to_bytes(_MESSAGE_BYTES, "big")
        signed.append((sr25519.sign(pair, message), message, pair[0]))  # pyright: ignore
    verify = sr25519.verify  # pyright: ignore
    done = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        for signature, message, key in signed[done % _SIGNATURES :][:_STEP]:
            if not verify(signature, message, key):
                raise SystemExit("a good signature was refused")
        done += _STEP
    print(done / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
