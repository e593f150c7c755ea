"""Configuration: precedence, strictness, sources, and what a child process is told."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from overseer.config import Config
from overseer.limits import Limits
from overseer.settings import ConfigError, Loaded, example_toml, load_config


class VotesDbSection(msgspec.Struct, frozen=True, kw_only=True):
    # Sessions whose votes are kept.
    window: int = 6
    # Names of friends.
    friends: list[str] = []


SECTIONS = {"votes_db": VotesDbSection}


def load(folder: Path, toml: str | None = None, *, env: dict[str, str] | None = None, flags: dict[str, object] | None = None) -> Loaded:
    if toml is not None:
        (folder / "overseer.toml").write_text(toml)
    return load_config(environ=env or {}, flags=flags, sections=SECTIONS, folder=folder)


def problems(folder: Path, toml: str | None = None, **given: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, toml, **given)  # type: ignore[arg-type]
    return list(caught.value.problems)


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.config == msgspec.structs.replace(Config(), data_dir=tmp_path / "overseer-data")
    assert loaded.file is None
    assert {s.source for s in loaded.settings} == {"default"}
    assert loaded.config.keys_dir == tmp_path / "overseer-data" / "keys"


def test_flags_beat_environment_beats_file_beats_default_and_each_names_its_source(tmp_path: Path) -> None:
    toml = "[http]\nport = 1\n[nats]\nport = 1\nhost = '::1'\n"
    env = {"OVERSEER_HTTP_PORT": "2", "OVERSEER_NATS_PORT": "2"}
    loaded = load(tmp_path, toml, env=env, flags={"http.port": 3, "nats.url": None})
    assert loaded.config.http.port == 3
    assert loaded.config.nats.port == 2
    assert loaded.config.nats.host == "::1"
    sources = {s.key: s.source for s in loaded.settings}
    assert sources["http.port"] == "flag"
    assert sources["nats.port"] == "environment OVERSEER_NATS_PORT"
    assert sources["nats.host"] == str(tmp_path / "overseer.toml")
    assert sources["nats.url"] == "default"


def test_every_setting_has_a_description(tmp_path: Path) -> None:
    assert [s.key for s in load(tmp_path).settings if not s.description] == []


def test_values_of_all_kinds_are_read_from_the_environment(tmp_path: Path) -> None:
    env = {
        "OVERSEER_IN_PROCESS": "true",
        "OVERSEER_SUBSYSTEMS": "chain_api, votes_db",
        "OVERSEER_GOVERNANCE_AUTHORITY": "0x" + "ab" * 32,
        "OVERSEER_LIMITS_PULL_WAIT_MS": "7",
        "OVERSEER_VOTES_DB_WINDOW": "9",
        "OVERSEER_VOTES_DB_FRIENDS": "a,b",
        "OVERSEER_TEST_ANYTHING": "ignored",
        "HOME": "/",
    }
    loaded = load(tmp_path, env=env)
    assert loaded.config.in_process is True
    assert loaded.config.subsystems == ("chain_api", "votes_db")
    assert loaded.config.governance.authority == b"\xab" * 32
    assert loaded.config.limits == Limits(pull_wait_ms=7)
    assert loaded.sections["votes_db"] == VotesDbSection(window=9, friends=["a", "b"])


def test_unknown_keys_are_named_with_their_place_and_the_nearest_known_one(tmp_path: Path) -> None:
    toml = "noed = 'x'\n[htpp]\nport = 1\n[http]\nprot = 1\n"
    found = problems(tmp_path, toml, env={"OVERSEER_NATS_PROT": "1"}, flags={"feed.sed": "1"})
    file = tmp_path / "overseer.toml"
    assert found == [
        f"{file}: unknown key `noed`; did you mean `node`?",
        f"{file}: unknown key `htpp.port`; did you mean `http.port`?",
        f"{file}: unknown key `http.prot`; did you mean `http.port`?",
        "environment: unknown variable OVERSEER_NATS_PROT; did you mean OVERSEER_NATS_PORT?",
        "flag: unknown key `feed.sed`; did you mean `feed.seed`?",
    ]


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[http]\nport = '8080'", "`http.port`: Expected `int`, got `str`"),
        ("[http]\nport = 70000", "`http.port`: Expected `int` <= 65535"),
        ("[log]\nformat = 'xml'", "`log.format`: Invalid enum value 'xml'; one of: auto, human, json"),
        ("subsystems = ['votes']", "one of: votes_db, dispute_conclusion, chain_api"),
        ("subsystems = []", "`subsystems`: must name at least one subsystem"),
        ("subsystems = ['votes_db', 'votes_db']", "none twice"),
        ("node = 'net'", "`node`: a node must not be called 'net'"),
        ("node = 'A b'", "`node`: must be lower snake case"),
        ("genesis = 'xyz'", "`genesis`: expected bytes in hexadecimal, got 3 characters that are not"),
        ("genesis = 'abcd'", "`genesis`: Expected `bytes` of length >= 32"),
        ("[limits]\nbatch_messages_max = 0", "`limits.batch_messages_max`: must be at least 1, not 0"),
        ("[votes_db]\nwindow = -1", "`votes_db.window`: must be at least 0, not -1"),
        ("[supervise]\nbackoff_first_ms = 90000", "must not exceed supervise.backoff_max_ms"),
        ("[nats]\nurl = 'http://x'", "`nats.url`: must be nats://host:port or tls://host:port, not 'http://x'"),
        ("http = 5", "`http` is a section: write [http] above its keys"),
        ("[htp]", "unknown section [htp]; did you mean [http]?"),
        ("node = ", "cannot be read as TOML"),
    ],
)
def test_a_wrong_value_is_named_with_file_key_and_what_is_expected(tmp_path: Path, toml: str, says: str) -> None:
    (problem,) = problems(tmp_path, toml)
    assert problem.startswith(f"{tmp_path / 'overseer.toml'}: ")
    assert says in problem


@pytest.mark.parametrize("url", ["nats://user:hunter2@host:4222", "nats://hunter2@host", "nats://a:1,tls://u:hunter2@b:2"])
def test_a_secret_in_a_url_is_refused_and_never_shown(tmp_path: Path, url: str) -> None:
    (problem,) = problems(tmp_path, env={"OVERSEER_NATS_URL": url})
    assert "must not carry a user, password or token" in problem
    assert "hunter2" not in problem


def test_the_value_of_an_unknown_key_is_never_shown(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "[nats]\npassword = 'hunter2'\n")
    assert "nats.password" in problem
    assert "hunter2" not in problem


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file"):
        load_config(Path("nowhere.toml"), environ={}, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file"):
        load_config(environ={"OVERSEER_CONFIG": "nowhere.toml"}, folder=tmp_path)


def test_paths_are_relative_to_what_names_them(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "overseer.toml").write_text("data_dir = 'state'\n[feed]\nsource = 'blocks.cbor'\n")
    named = load_config(Path("etc/overseer.toml"), environ={}, folder=tmp_path)
    assert named.config.data_dir == tmp_path / "etc" / "state"
    assert named.config.feed.source == str(tmp_path / "etc" / "blocks.cbor")
    told = load_config(environ={"OVERSEER_DATA_DIR": "state", "OVERSEER_FEED_SOURCE": "dev"}, folder=tmp_path)
    assert told.config.data_dir == tmp_path / "state"
    assert told.config.feed.source == "dev"


def test_a_child_told_by_the_environment_has_the_same_configuration_wherever_it_runs(tmp_path: Path) -> None:
    toml = "node = 'alice'\nin_process = true\n[feed]\nsource = 'b.cbor'\n[votes_db]\nfriends = ['x', 'y']\n[governance]\nauthority = '"
    parent = load(tmp_path, toml + "cd" * 32 + "'\n", flags={"subsystems": ["votes_db"], "genesis": ""})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "overseer.toml").write_text("node = 'mallory'\n")
    child = load_config(environ=parent.environment(), sections=SECTIONS, folder=elsewhere)
    assert child.config == parent.config
    assert child.sections == parent.sections


def dotted(table: dict[str, object], prefix: str = "") -> list[str]:
    return [
        key
        for name, value in table.items()
        for key in (dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"])
    ]


def test_the_example_holds_every_key_with_its_default(tmp_path: Path) -> None:
    example = example_toml(SECTIONS)
    assert load(tmp_path, example).config == load(tmp_path).config
    uncommented = "\n".join(line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in example.splitlines())
    table = tomllib.loads(uncommented)
    assert {s.key for s in load(tmp_path).settings} == set(dotted(table))
    (tmp_path / "overseer.toml").unlink()
    defaults = load(tmp_path)
    again = load(tmp_path, uncommented)
    assert again.config == defaults.config
    assert again.sections == defaults.sections


def test_a_section_may_not_take_the_name_of_our_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="http"):
        load_config(environ={}, sections={"http": VotesDbSection}, folder=tmp_path)


def test_no_two_keys_share_an_environment_variable(tmp_path: Path) -> None:
    keys = [s.key for s in load(tmp_path).settings]
    assert len({key.replace(".", "_").upper() for key in keys}) == len(keys)
