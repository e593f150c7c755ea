"""Keys: made once, private, never shown."""

import logging
import pickle
import stat
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync

from overseer.nats.keys import KeyFolder, Seed, UnusableKey


def test_keys_are_made_once_and_only_the_owner_can_read_them(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path / "keys")
    publics = keys.ensure(["votes_db", "operator"])
    assert keys.ensure(["operator", "votes_db"]) == publics
    assert len(set(publics.values())) == 2
    assert all(public.startswith("U") and len(public) == 56 for public in publics.values())
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in keys.folder.iterdir()] == [0o600, 0o600]
    assert sorted(path.name for path in keys.folder.iterdir()) == ["operator.nk", "votes_db.nk"]


def test_a_seed_shows_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = KeyFolder(tmp_path / "keys")
    keys.ensure(["votes_db"])
    seed = keys.seed("votes_db")
    secret = keys.path("votes_db").read_text().strip()
    assert seed.reveal() == secret
    logging.getLogger("test").warning("%s %r", seed, [seed])
    shown = f"{seed} {seed!r} {seed:>40} {[seed]} {vars(keys)} {caplog.text}"
    assert secret not in shown
    assert secret[5:20] not in shown
    with pytest.raises(TypeError):
        pickle.dumps(seed)


def test_rotation_gives_a_new_key(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path / "keys")
    before = keys.ensure(["votes_db"])["votes_db"]
    assert keys.rotate("votes_db") != before
    assert keys.ensure(["votes_db"])["votes_db"] == keys.public("votes_db") != before


def test_an_open_file_or_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path / "keys")
    keys.ensure(["votes_db"])
    keys.path("votes_db").chmod(0o644)
    with pytest.raises(UnusableKey, match="chmod 600"):
        keys.seed("votes_db")
    keys.folder.chmod(0o755)
    with pytest.raises(UnusableKey, match="chmod 700"):
        keys.ensure(["votes_db"])


@pytest.mark.parametrize("text", ["", "SUANOTASEED", "x" * 58, "SAAPQRS", "\u00e4"])
def test_a_broken_key_is_named_without_its_content(tmp_path: Path, text: str) -> None:
    keys = KeyFolder(tmp_path / "keys")
    keys.ensure(["votes_db"])
    keys.path("votes_db").write_text(text, encoding="latin-1")
    with pytest.raises(UnusableKey, match=r"votes_db\.nk: not an nkey seed") as caught:
        keys.seed("votes_db")
    assert not text or text not in str(caught.value)


def test_a_missing_key_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnusableKey, match="overseer provision"):
        KeyFolder(tmp_path).seed("votes_db")


@pytest.mark.parametrize("user", ["../operator", "a/b", "", "Upper", "a b", "x" * 65])
def test_a_user_is_a_token_never_a_path(tmp_path: Path, user: str) -> None:
    with pytest.raises(ValueError, match="lower snake case"):
        KeyFolder(tmp_path).path(user)


def test_a_seed_of_another_kind_is_no_users() -> None:
    # An account's seed.
    with pytest.raises(ValueError, match="user"):
        Seed("SAAFYOZ5U2UBAQUI5LVWDI2RXDEUMDCQJMWBMFMVDWWSMPIJNJNMFWQNYI").public()


@pytest.mark.anyio
async def test_two_who_make_the_same_key_get_the_same_key(tmp_path: Path) -> None:
    found: list[dict[str, str]] = []

    async def make() -> None:
        found.append(await run_sync(KeyFolder(tmp_path / "keys").ensure, ["a", "b", "c"]))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(make)
    assert len({tuple(sorted(publics.items())) for publics in found}) == 1
