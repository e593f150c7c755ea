"""What is asked of the elections in one run, drawn from its seed before it begins."""

from random import Random

import msgspec

from messages.ballots import (
    CastBallot,
    CloseElection,
    InvalidateBallot,
    InvalidateElection,
    OpenElection,
    ValidateBallot,
    ValidateElection,
)
from messages.elections import OfElection

__all__ = ["Input", "draw_inputs"]

_CHOICES = ["ada", "grace"]
_VOTERS = 10
_CLIENTS = 5


class Input(msgspec.Struct, frozen=True):
    """One thing that a client does, after what it did before and not before `at_ms`. `command` None: it reads.

    `insists`: it asks again under the same id until it is told the outcome; else once. `again_ms`: so long after that it asks once more,
    with another body under the same id if `forged`. `minded`: a reader requires what its client was told before.
    """

    at_ms: int
    client: int
    election: str
    id: str
    command: OfElection | None = None
    insists: bool = True
    again_ms: int = 0
    forged: bool = False
    minded: bool = False


def draw_inputs(random: Random, span_ms: int) -> tuple[list[str], list[Input]]:
    """The keys of the elections, and all inputs in order of time."""
    keys = [f"e{n}" for n in range(random.choice((1, 1, 2)))]
    drawn: list[tuple[int, str, OfElection | None]] = []
    for key in keys:
        drawn += _course(random, key, span_ms)
        drawn += [(random.randrange(span_ms), key, None) for _ in range(random.choice((4, 8)))]
    inputs = [
        Input(
            at_ms=at_ms,
            client=random.randrange(_CLIENTS),
            election=key,
            id=f"{key}-{n}",
            command=command,
            insists=random.random() < 0.85,
            again_ms=random.choice((0, 0, 0, 1, 300, 3_000)),
            forged=random.random() < 0.2,
            minded=random.random() < 0.5,
        )
        for n, (at_ms, key, command) in enumerate(drawn)
    ]
    return keys, sorted(inputs, key=lambda each: each.at_ms)


def _course(random: Random, key: str, span_ms: int) -> list[tuple[int, str, OfElection | None]]:
    """One election: rounds of opening, ballots, closing and verdicts; what is too early or too late is refused, and that is recorded."""
    out: list[tuple[int, str, OfElection | None]] = []
    rounds = random.choice((1, 1, 2))
    length = span_ms // rounds
    for start in range(0, length * rounds, length):
        closing = start + length * random.choice((40, 60, 80)) // 100
        electorate = random.choice((None, None, 6))
        out.append((start, key, OpenElection(election=key, title=key, choices=_CHOICES, electorate=electorate)))
        out.append((closing, key, CloseElection(election=key)))
        for _ in range(random.choice((6, 12, 24))):
            choice = random.choice((*_CHOICES, *_CHOICES, *_CHOICES, "nobody"))
            at_ms = random.randrange(start, closing + length // 20)
            out.append((at_ms, key, CastBallot(election=key, voter=_voter(random), choice=choice)))
        for _ in range(random.choice((4, 8))):
            verdict = random.choice((ValidateBallot, ValidateBallot, InvalidateBallot))
            out.append((random.randrange(closing, start + length), key, verdict(election=key, voter=_voter(random))))
        if random.random() < 0.2:
            reviews = [ValidateBallot(election=key, voter=_name(n)) for n in range(_VOTERS)]
            out += [(start + length * 9 // 10, key, review) for review in reviews]
        last = random.choice((ValidateElection, InvalidateElection))
        out.append((start + length - 1, key, last(election=key)))
    return out


def _voter(random: Random) -> bytes:
    return _name(random.randrange(_VOTERS))


def _name(number: int) -> bytes:
    return b"v%d" % number
