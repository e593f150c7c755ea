"""Child processes of these tests import our packages from the working tree."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _find_our_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
