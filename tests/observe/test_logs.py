"""Logs: two forms, who writes, and no secret in either."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from overseer.config import LogConfig
from overseer.observe.logs import MASK, Waits, configure_logs, logger

SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def written(config: LogConfig | None = None) -> io.StringIO:
    out = io.StringIO()
    configure_logs(config or LogConfig(), run_id="run7", node="alice", stream=out)
    return out


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_json_and_says_who_wrote_it() -> None:
    out = written()
    logger("votes_db").info("store_opened", tables=7, hash=b"\x01\x02")
    (line,) = lines(out)
    assert line.pop("timestamp")
    assert line == {
        "event": "store_opened",
        "level": "info",
        "run_id": "run7",
        "node": "alice",
        "subsystem": "votes_db",
        "pid": os.getpid(),
        "tables": 7,
        "hash": "0102",
    }


def test_on_a_terminal_it_is_for_people() -> None:
    out = Terminal()
    configure_logs(LogConfig(), run_id="run7", node="alice", stream=out)
    logger("votes_db").info("store_opened", tables=7)
    assert "store_opened" in out.getvalue()
    assert not out.getvalue().startswith("{")


@pytest.mark.parametrize("form", ["human", "json"])
def test_no_secret_gets_through_in_either_form(form: str) -> None:
    out = Terminal() if form == "human" else io.StringIO()
    configure_logs(LogConfig(format=form), run_id="r", node="n", stream=out)  # type: ignore[arg-type]
    log = logger("overseer")
    log.info("connect", password="hunter2", nkey_seed=SEED, url="nats://bob:hunter2@host:4222")
    log.info(f"seed is {SEED}", detail={"token": "hunter2", "inner": [f"Bearer hunter2 {SEED}"]})
    try:
        raise RuntimeError(f"cannot log in with {SEED} at tls://hunter2@host")
    except RuntimeError:
        log.exception("failed")
        logging.getLogger("nats").exception("failed too at nats://bob:hunter2@host")
    assert "hunter2" not in out.getvalue()
    assert SEED not in out.getvalue()
    assert MASK in out.getvalue()
    assert "host:4222" in out.getvalue()


def test_levels_below_the_configured_one_are_not_written() -> None:
    out = written(LogConfig(level="warning"))
    logger("votes_db").info("quiet")
    logger("votes_db").warning("loud")
    assert [line["event"] for line in lines(out)] == ["loud"]


def test_the_standard_library_ends_in_the_same_place() -> None:
    out = written()
    logging.getLogger("nats.aio").warning("slow consumer %d", 3)
    logging.getLogger("nats.aio").info("chatter")
    (line,) = lines(out)
    assert line["event"] == "slow consumer 3"
    assert line["logger"] == "nats.aio"
    assert line["node"] == "alice"


def test_long_values_are_cut() -> None:
    out = written()
    logger("votes_db").info("big", body=bytes(1_000_000), text="x" * 1_000_000, huge=2**70)
    assert len(out.getvalue()) < 10_000
    (line,) = lines(out)
    assert line["body"] == "00" * 32 + "... (1000000 bytes)"
    assert line["huge"] == str(2**70)


def test_a_process_without_stderr_says_nothing_and_goes_on() -> None:
    code = (
        "import sys; from overseer.config import LogConfig; from overseer.observe.logs import configure_logs, logger\n"
        "assert sys.stderr is None\n"
        "configure_logs(LogConfig(), run_id='r', node='n'); logger('votes_db').error('nobody hears'); print('went on')"
    )
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_a_closed_stderr_stops_nothing() -> None:
    out = written()
    out.close()
    logger("votes_db").error("nobody hears")
    logging.getLogger("nats").error("nobody hears")


def test_what_is_waited_for_is_told_when_it_changes_and_not_with_each_try() -> None:
    out = written()
    waits = Waits(logger("feed"))
    for why in ("", "nobody listens", "nobody listens", "no answer", "", "", "no answer"):
        waits.tell(why, block=7)
    found = [(line["event"], line.get("error")) for line in lines(out)]
    assert found == [("waiting", "nobody listens"), ("waiting", "no answer"), ("goes_on", None), ("waiting", "no answer")]
    assert {line["block"] for line in lines(out)} == {7}
