"""The accounts' text: from declarations and public keys alone, refusing what contradicts itself."""

import json
import re
import subprocess
from pathlib import Path

import msgspec
import pytest
from nats_declarations import CHAIN_API, DECLARATIONS, VOTES_DB

from messages.chain_api import Blacklist, FinalizeBlock
from messages.subjects import SubjectError
from overseer.nats.accounts import DeclarationConflict, NodeUsers, accounts_config, user_names
from overseer.nats.context import context_folder, write_context
from overseer.nats.keys import KeyFolder
from overseer.nats.server import find_server
from overseer.subsystem import Declaration


def users(
    folder: Path,
    *declarations: Declaration,
    node: str = "alpha",
    operators: tuple[str, ...] = ("operator",),
    sites: tuple[str, ...] = (),
) -> NodeUsers:
    keys = KeyFolder(folder / f"keys-{node}").ensure(user_names(declarations, operators=operators, sites=sites))
    return NodeUsers(node=node, declarations=declarations, keys=keys, operators=operators, sites=sites)


def test_the_text_is_the_same_for_the_same_declarations_and_holds_no_secret(tmp_path: Path) -> None:
    node = users(tmp_path, *DECLARATIONS)
    text = accounts_config([node])
    assert accounts_config([node]) == text
    for key in (tmp_path / "keys-alpha").iterdir():
        assert key.read_text().strip() not in text
    assert not re.search(r"\bS[A-Z2-7]{57}\b", text)
    assert "no_auth_user" not in text


def test_a_restricted_command_is_sent_by_those_it_names_alone(tmp_path: Path) -> None:
    thief = msgspec.structs.replace(VOTES_DB, sends=(*VOTES_DB.sends, Blacklist))
    with pytest.raises(DeclarationConflict, match=r"votes_db declares to send chain_api\.cmd\.blacklist.*dispute_conclusion alone"):
        accounts_config([users(tmp_path, thief, CHAIN_API)])


def test_a_restricted_command_is_no_request_of_people(tmp_path: Path) -> None:
    open_door = msgspec.structs.replace(CHAIN_API, requests=(FinalizeBlock, Blacklist))
    with pytest.raises(DeclarationConflict, match=r"chain_api\.cmd\.blacklist as restricted and as a request"):
        accounts_config([users(tmp_path, open_door)])


def test_what_is_for_nobody_is_not_exported_to_everybody(tmp_path: Path) -> None:
    """An empty list of accounts would mean all accounts: a site without others, a node without operators."""
    text = accounts_config([users(tmp_path, *DECLARATIONS, operators=(), sites=("a",))])
    exports = re.findall(r'service: "([^"]+)", accounts: (\[[^\]]*\])', text)
    assert len(exports) > 10
    assert [subject for subject, accounts in exports if accounts == "[]"] == []


@pytest.mark.parametrize("operators", [("votes_db",), ("overseer",), ("reader",), ("provisioner",), ("a", "a")])
def test_two_users_never_share_a_name(operators: tuple[str, ...]) -> None:
    with pytest.raises(DeclarationConflict, match="named twice"):
        user_names(DECLARATIONS, operators=operators)


def test_a_site_never_shares_its_name_with_a_subsystem() -> None:
    called = msgspec.structs.replace(VOTES_DB, name="elections_a")
    with pytest.raises(DeclarationConflict, match="named twice: elections_a"):
        user_names((called,), sites=("a", "b"))


@pytest.mark.parametrize("site", ["a.b", "*", "A", "a b", "a" * 60])
def test_a_site_that_would_break_the_subjects_is_refused(site: str) -> None:
    with pytest.raises(SubjectError):
        user_names((), sites=(site,))


def test_without_sites_there_is_no_word_of_them(tmp_path: Path) -> None:
    text = accounts_config([users(tmp_path, *DECLARATIONS)])
    assert not re.search(r"elections|overseer\.log|_LOG_|KV_|[$]KV", text)
    with_sites = accounts_config([users(tmp_path, *DECLARATIONS, sites=("a", "b"))])
    # What the subsystems may is the same with them.
    for name in ("votes_db", "dispute_conclusion", "chain_api"):
        assert account(with_sites, f"alpha-{name}") == account(text, f"alpha-{name}")


def test_operators_are_refused_what_would_disturb_a_sites_consumers(tmp_path: Path) -> None:
    operator = account(accounts_config([users(tmp_path, *DECLARATIONS, sites=("a", "b"))]), "alpha-operator")
    refused = set(re.findall(r'"([^"]+)"', operator.partition("deny: [")[2].partition("]")[0]))
    for site in ("a", "b"):
        for consumer in (f"OVERSEER_LOG_alpha.elections_{site}-ballots", f"OVERSEER_alpha.elections_{site}"):
            assert {f"$JS.API.CONSUMER.DELETE.{consumer}", f"$JS.API.CONSUMER.MSG.NEXT.{consumer}", f"$JS.ACK.{consumer}.>"} <= refused


def test_nodes_that_share_a_server_have_logs_and_mail_of_their_own(tmp_path: Path) -> None:
    text = accounts_config([users(tmp_path, sites=("a", "b")), users(tmp_path, node="beta", sites=("a", "b"))])
    assert "alpha" not in account(text, "beta-elections_a")
    assert "beta" not in account(text, "alpha-elections_a")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    node = users(tmp_path, *DECLARATIONS)
    keys = {name: key for name, key in node.keys.items() if name != "overseer"}
    with pytest.raises(DeclarationConflict, match="node alpha: no key for overseer"):
        accounts_config([msgspec.structs.replace(node, keys=keys)])


@pytest.mark.parametrize("node", ["net", "log", "a.b", "*", ">", "A", ""])
def test_a_node_that_would_break_the_subjects_is_refused(tmp_path: Path, node: str) -> None:
    with pytest.raises(SubjectError):
        accounts_config([msgspec.structs.replace(users(tmp_path, *DECLARATIONS), node=node)])


def account(text: str, name: str) -> str:
    return text.partition(f'"{name}" {{')[2].partition("\n}")[0]


def test_no_account_passes_on_what_it_imports(tmp_path: Path) -> None:
    text = accounts_config([users(tmp_path, *DECLARATIONS, sites=("a", "b", "c"))])
    for name in ("votes_db", "dispute_conclusion", "chain_api", "overseer", "operator", "reader", "elections_a", "elections_c"):
        imports, _, exports = account(text, f"alpha-{name}").partition("exports:")
        imported = set(re.findall(r'service: \{ account: \S+ subject: "([^"]+)"', imports))
        exported = set(re.findall(r'service: "([^"]+)"', exports))
        assert imported
        assert not {s for s in imported if any(s == e or s.startswith(e.rstrip(">")) for e in exported)}


def test_several_operators_have_accounts_and_sender_tokens_of_their_own(tmp_path: Path) -> None:
    text = accounts_config([users(tmp_path, *DECLARATIONS, operators=("operator", "feed"))])
    assert "op_feed" not in account(text, "alpha-operator")
    assert "op_operator" not in account(text, "alpha-feed")
    assert "overseer.alpha.op_feed.cmd.chain_api.import_block" in account(text, "alpha-feed")


@pytest.mark.real
def test_a_server_takes_the_accounts_of_several_nodes(tmp_path: Path) -> None:
    config = tmp_path / "server.conf"
    nodes = [users(tmp_path, *DECLARATIONS), users(tmp_path, *DECLARATIONS, node="beta", operators=("operator", "feed"), sites=("a", "b"))]
    config.write_text("jetstream {}\n" + accounts_config(nodes))
    subprocess.run([find_server(), "-t", "-c", config], check=True, capture_output=True)


def test_the_context_of_the_stock_command_line_names_the_key_and_does_not_hold_it(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path / "keys")
    keys.ensure(["operator"])
    folder = context_folder({"XDG_CONFIG_HOME": str(tmp_path / "config")})
    path = write_context("alpha", url="nats://127.0.0.1:4222", seed_file=keys.path("operator"), folder=folder)
    assert path == tmp_path / "config" / "nats" / "context" / "overseer-alpha.json"
    assert json.loads(path.read_text()) == {
        "description": "overseer node alpha, as operator",
        "url": "nats://127.0.0.1:4222",
        "nkey": str(tmp_path / "keys" / "operator.nk"),
        "inbox_prefix": "_INBOX.alpha.operator",
    }
    assert path.stat().st_mode & 0o777 == 0o600
    assert write_context("alpha", url="nats://x:1", seed_file=keys.path("operator"), folder=folder) == path
    assert write_context("alpha", url="nats://x:1", seed_file=keys.path("operator"), user="reader", folder=folder) != path
    assert context_folder({}) == Path.home() / ".config" / "nats" / "context"
