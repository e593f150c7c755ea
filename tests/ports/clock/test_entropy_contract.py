"""The Entropy port's contract, from the system and under a seed."""

import pytest

from overseer.memory.entropy import SeededEntropy
from overseer.ports.entropy import Entropy
from overseer.system.entropy import SystemEntropy


@pytest.fixture(params=["seeded", "system"])
def entropy(request: pytest.FixtureRequest) -> Entropy:
    return SeededEntropy(1) if request.param == "seeded" else SystemEntropy()


@pytest.mark.parametrize("size", [0, 1, 16, 32, 1000])
def test_a_draw_has_the_size_asked_for(entropy: Entropy, size: int) -> None:
    assert len(entropy.draw(size)) == size


def test_no_two_draws_are_equal(entropy: Entropy) -> None:
    assert len({entropy.draw(16) for _ in range(1_000)}) == 1_000


def test_a_seed_determines_every_draw() -> None:
    one, same, other = SeededEntropy(7), SeededEntropy(7), SeededEntropy(8)
    draws = [one.draw(16) for _ in range(5)]
    assert draws == [same.draw(16) for _ in range(5)]
    assert draws != [other.draw(16) for _ in range(5)]
    # Recorded seeds must replay on every release.
    assert draws[0].hex() == "ec488444f6f1cf89518fd2a8dcf0ea5a"


def test_forks_depend_on_the_label_alone_and_not_on_what_was_drawn() -> None:
    one, same = SeededEntropy(7), SeededEntropy(7)
    one.draw(16)
    assert one.fork("n1").draw(16) == same.fork("n1").draw(16) != same.fork("n2").draw(16)
