"""The examples of docs/testing.md run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.nested import nested_pytest

ROOT = Path(__file__).parents[2]


def example(number: int) -> str:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)[number]


def run(argv: list[str], folder: Path) -> str:
    done = subprocess.run(
        argv, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.real
def test_the_example_with_the_plug_in_runs_in_both_worlds(tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(example(0))
    pytest_here = [*nested_pytest(tmp_path), "-q"]
    assert "2 passed" in run([*pytest_here, "test_example.py"], tmp_path)
    assert "1 passed, 1 deselected" in run([*pytest_here, "-m", "not real", "test_example.py"], tmp_path)


def test_the_example_without_pytest_runs(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(example(1))
    assert run([sys.executable, "example.py"], tmp_path).endswith(" records\n")


def test_the_plug_in_is_cheap_to_load() -> None:
    """pytest loads it in every run, wherever this package is installed."""
    code = "import pytest, sys; before = set(sys.modules); import overseer.testing.plugin; print(sorted(set(sys.modules) - before))"
    loaded = run([sys.executable, "-c", code], ROOT)
    assert loaded.strip() == "['overseer', 'overseer.testing', 'overseer.testing.plugin']"


def test_every_method_that_the_page_names_exists() -> None:
    from overseer.testing.virtual import VirtualOverseer
    from overseer.testing.worlds import MemoryWorld, RealWorld

    text = (ROOT / "docs" / "testing.md").read_text()
    table = text[text.index("## What a test can do") : text.index("## Without pytest")]
    named = set(re.findall(r"`(?:await )?v\.(\w+)\b(?!\.)", table))
    assert named
    attributes = {*dir(VirtualOverseer), "world", "witness", "failure"}
    assert named <= attributes, named - attributes
    for name in re.findall(r"`(?:v\.world\.)?(trim|bound|stop_bus|start_bus)\(", table):
        assert hasattr(MemoryWorld, name)
        assert hasattr(RealWorld, name)
