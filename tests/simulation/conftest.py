"""The small subsystems of the runner's own tests are played here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "runner"))
