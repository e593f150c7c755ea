"""The routes of a cluster as text: what a server takes, with a password that is new each time."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from overseer.cli.app import app
from overseer.nats.routes import BadRoute, routes_config
from overseer.nats.server import find_server

PASSWORD = "p" * 32


@pytest.mark.parametrize(
    "addresses",
    [[], ["a:1"], ["a:1", "a:1"], ["a:1", "b"], ["a:1", "b:0"], ["a:1", "user:word@b:2"], ["a:1", 'b:2", "c:3'], ["a:1", "b:2\n"]],
)
def test_what_is_no_address_of_a_server_is_refused(addresses: list[str]) -> None:
    with pytest.raises(BadRoute):
        routes_config(addresses, PASSWORD)


@pytest.mark.parametrize("password", ["", "short", "p" * 31, "p" * 32 + "@", '"' * 32])
def test_a_password_that_can_be_guessed_or_that_ends_the_text_is_refused(password: str) -> None:
    with pytest.raises(BadRoute, match="at least 32 letters and digits"):
        routes_config(["a:1", "b:2"], password)


@pytest.mark.real
def test_a_server_takes_it_in_its_cluster_block(tmp_path: Path) -> None:
    (tmp_path / "routes.conf").write_text(routes_config(["nats1:6222", "10.0.0.2:6222", "[::1]:6222"], PASSWORD))
    (tmp_path / "server.conf").write_text('cluster: {\n  name: c\n  listen: "127.0.0.1:-1"\n  include routes.conf\n}\n')
    tested = subprocess.run([find_server(), "-t", "-c", tmp_path / "server.conf"], capture_output=True, check=False)
    assert tested.returncode == 0, tested


def test_the_command_line_prints_it_with_another_password_each_time() -> None:
    said = [CliRunner().invoke(app, ["provision", "--routes", "nats1:6222, nats2:6222"]) for _ in range(2)]
    assert [result.exit_code for result in said] == [0, 0]
    passwords = [json.loads(result.stdout.splitlines()[0].partition(": ")[2])["password"] for result in said]
    assert len(set(passwords)) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", password) for password in passwords)
    assert said[0].stdout.count(passwords[0]) == 3
