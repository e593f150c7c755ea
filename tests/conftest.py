"""Fixtures shared by all tests."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """nats-py is asyncio only. Of the session: fixtures of any scope may be asynchronous."""
    return "asyncio"
