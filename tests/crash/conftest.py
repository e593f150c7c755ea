"""Every crash test gets a place of its own, which it must leave clean."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.nodes import Place, place


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        yield made
