"""The demo's run, once for all who ask why something in it is as it is."""

import io
import json
import signal
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

import pytest

from overseer.cli.app import run_app
from tests.node.nodes import Done, Place

# On a machine that does much else.
DEMO_S = 600.0


class Kept(NamedTuple):
    """The folder that a demo left, and what it told of itself."""

    place: Place
    told: Any

    @property
    def questions(self) -> dict[str, Any]:
        """By kind: what its last lines propose to ask."""
        return {question["kind"]: question for question in self.told["explained"]["questions"]}

    def run(self, *argv: str, folder: str = "") -> Done:
        """`overseer explain` with these arguments, in this process: many questions are asked."""
        out, error = io.StringIO(), io.StringIO()
        before = signal.getsignal(signal.SIGTERM)
        try:
            with redirect_stdout(out), redirect_stderr(error):
                code = run_app(["explain", *argv, "--data-dir", folder or str(self.place.data)])
        finally:
            # The command line minds SIGTERM; this process goes on after it.
            signal.signal(signal.SIGTERM, before)
        return Done(code, out.getvalue(), error.getvalue())

    def explain(self, kind: str, id: str, folder: str = "") -> Any:
        """The JSON answer."""
        done = self.run(kind, id, "--json", folder=folder)
        assert done.code == 0, done
        return done.json


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    place = Place(tmp_path_factory.mktemp("demo"))
    done = place.run("demo", "--validators", "10", "--data-dir", str(place.data), "--json", timeout=DEMO_S)
    yield Kept(place, json.loads(done.out))
    place.clean()
