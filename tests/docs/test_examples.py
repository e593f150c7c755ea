"""The examples of the guide run as they are written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("example", sorted((ROOT / "docs" / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_an_example_of_the_guide_imports_and_passes_its_own_test(example: Path) -> None:
    # In a process of its own: the messages it registers must not join the contract that other tests read.
    run = [sys.executable, "-W", "error", str(example)]
    done = subprocess.run(run, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
