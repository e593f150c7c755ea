"""Every crash test gets a place of its own, which it must leave clean; those of damage share a node that has run."""

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.node.nodes import here

if TYPE_CHECKING:
    from tests.crash.damage import Sample

__all__ = ["here", "sample"]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> "Sample":
    """A node that has run and was killed. It must not be changed: work on copies."""
    from tests.crash.damage import prepared

    return anyio.run(prepared, tmp_path_factory.mktemp("sample"))
