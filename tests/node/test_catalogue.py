"""The composition root: what a subsystem's process loads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from overseer.node.catalogue import CATALOGUE

_LOADED = """
import json, sys
import overseer.cli.subsystem
from overseer.node.catalogue import SECTIONS, build_subsystem
from overseer.settings import load_config
build_subsystem(sys.argv[1], load_config(None, environ={}, flags={"data_dir": sys.argv[2]}, sections=SECTIONS))
print(json.dumps([name for name in sys.modules if name.startswith("subsystems.")]))
"""


@pytest.mark.parametrize("name", ["votes_db", "dispute_conclusion", "consensus_manager"])
def test_the_process_of_a_subsystem_does_not_load_the_others_decisions(name: str, tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", _LOADED, name, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(json.loads(ran.stdout))
    assert f"subsystems.{name}.subsystem" in loaded
    # Sites of elections are laid out and watched by whoever is told their count.
    others = set(CATALOGUE) - {name, "elections"}
    assert not {f"subsystems.{other}.subsystem" for other in others} & loaded
