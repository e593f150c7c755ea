"""Fixtures shared by all tests."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """nats-py is asyncio only."""
    return "asyncio"
