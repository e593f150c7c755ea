"""Targets: what is read from files. Feeds, configuration, keys, marks of stores and runs, the journal."""

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from messages.codec import CodecError, decode_value, encode_value
from messages.message import Kind
from messages.overseer import RepairNoted
from overseer.feeds.files import FeedFileError, read, record_bytes
from overseer.feeds.keyring import KeyFileError, Keyring
from overseer.memory.rows import MemoryRows
from overseer.nats.keys import KeyFolder, UnusableKey
from overseer.node.catalogue import SECTIONS
from overseer.node.folder import NodeFolder, NotRunning, RunInfo
from overseer.ports.store import StoreCorrupted, StoreError, StoreIdentity, WrongStore
from overseer.rocks.identity import IDENTITY_KEY, pack_identity, read_identity
from overseer.rocks.seal import check_sequence, read_seal
from overseer.runner import journal
from overseer.runner.errors import JournalBroken
from overseer.runner.schema import (
    BLOBS,
    HEAD,
    JOURNAL,
    OUTBOX_NODE,
    OUTCOMES,
    SYSTEM_TABLES,
    TIMERS,
    WATERMARKS,
    Cause,
    Head,
    OutboxRow,
    OutcomeRow,
    Result,
    TimerRow,
    Watermark,
)
from overseer.runner.timers import Timers
from overseer.settings import ConfigError, example_toml, load_config
from overseer.tables import Overlay
from tests.codec.message_values import CONTRACT, simplest
from tests.fuzz.target import Broken, Target, folder

__all__ = ["TARGETS"]

_COMMANDS = [simplest(spec) for spec in CONTRACT if spec.kind is Kind.COMMAND]


def _written(name: str, data: bytes, mode: int = 0o600) -> Path:
    path = folder("files") / name
    path.write_bytes(data)
    path.chmod(mode)
    return path


# ------------------------------------------------------------------------------------------------ feeds and settings


def _feed(data: bytes) -> str:
    path = _written("feed", data)
    messages = [record.message for record in read(path)]
    path.write_bytes(b"".join(record_bytes(message, "jsonl") for message in messages))
    if [record.message for record in read(path)] != messages:
        raise Broken("other commands come back")
    return "taken" if messages else "empty"


def _feed_seeds() -> list[bytes]:
    each = [record_bytes(message, form) for message in _COMMANDS for form in ("jsonl", "cbor")]
    return [*each, b"".join(each[0::2]), b"".join(each[1::2])]


def _config(data: bytes) -> str:
    """Cut at NUL: the file; then variables and flags as `name=value`."""
    text, *given = data.split(b"\0")
    pairs = [piece.decode(errors="replace").partition("=") for piece in given]
    environ = {f"OVERSEER_{name.strip('=')}": value for name, _, value in pairs[0::2]}
    flags = {name: value for name, _, value in pairs[1::2]}
    loaded = load_config(_written("overseer.toml", text), environ=environ, flags=flags, sections=SECTIONS, folder=folder("files"))
    again = load_config(environ=loaded.environment(), sections=SECTIONS, folder=folder("files"))
    if again.config != loaded.config or again.sections != loaded.sections:
        raise Broken("a child process would have another configuration")
    return "taken"


def _config_seeds() -> list[bytes]:
    full = "\n".join(line.removeprefix("#") if not line.startswith("# ") else line for line in example_toml(SECTIONS).splitlines())
    return [
        full.encode(),
        b'node = "alpha"\n[nats]\nport = 4222\nurl = "nats://127.0.0.1:4222"\n',
        b"[limits]\nbatch_messages_max = 1\n\0NATS_PORT=1\0feed.source=dev\0FEED_SEED=7\0subsystems=votes_db,chain_api",
        b"\0GENESIS=0x" + b"ab" * 32 + b"\0governance.authority=" + b"cd" * 32 + b"\0CONFIG=other.toml",
    ]


# ------------------------------------------------------------------------------------------------ keys and marks


def _key_file(data: bytes) -> str:
    ring = Keyring.from_json(data)
    if [(k.scheme, k.seed) for k in Keyring.from_json(ring.to_json())] != [(k.scheme, k.seed) for k in ring]:
        raise Broken("other keys come back")
    return "taken"


def _seed_file(data: bytes) -> str:
    _written("fuzz.nk", data)
    keys = KeyFolder(folder("files"))
    seed = keys.seed("fuzz")
    if seed.reveal() in f"{seed} {seed!r}" or not keys.public("fuzz").startswith("U"):
        raise Broken("a secret is shown")
    return "taken"


@functools.cache
def _a_seed() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        KeyFolder(Path(place)).ensure(["some"])
        return (Path(place) / "some.nk").read_bytes()


def _seal(data: bytes) -> str:
    _written("SEAL", data)
    check_sequence(folder("files"), read_seal(folder("files")), 1000)
    return "taken"


def _identity(data: bytes) -> str:
    read_identity({IDENTITY_KEY: data}, "here")  # pyright: ignore[reportArgumentType]
    return "taken"


def _run_file(data: bytes) -> str:
    _written("run.json", data)
    NodeFolder(folder("files")).last_run()
    return "taken"


# ------------------------------------------------------------------------------------------------ the journal


@functools.cache
def _rows() -> dict[str, list[tuple[bytes, bytes]]]:
    """A small sound store: three records (one with a blob), and a row of every other system table."""
    rows = MemoryRows([table.name for table in SYSTEM_TABLES])
    overlay = Overlay(rows)
    head = Head(incarnation=bytes(16))
    for index, spec in enumerate(spec for spec in CONTRACT if spec.kind is Kind.EVENT and spec.body is not RepairNoted):
        event = journal.pack_event(overlay, index + 1, simplest(spec), 1 if index == 1 else 1 << 20)
        journal.append(
            overlay,
            head,
            time_ms=index,
            cause=Cause("node", index, "op_x", "", bytes(32), "c", ""),
            input_key="votes_db.cmd.register_vote",
            result=Result("accepted"),
            events=[event],
            timers=[TimerRow("k", 5, "m", b"\xa0")],
        )
        if index == 2:
            break
    overlay.put(HEAD.name, journal.HEAD_KEY, encode_value(head))
    overlay.put(TIMERS.name, TIMERS.pack(("k",)), encode_value(TimerRow("k", 5, "m", b"\xa0")))
    overlay.put(OUTBOX_NODE.name, OUTBOX_NODE.pack((1, 0)), encode_value(OutboxRow("s", {"a": "b"}, b"\xa0")))
    overlay.put(WATERMARKS.name, WATERMARKS.pack(("s",)), encode_value(Watermark(1, 2)))
    overlay.put(OUTCOMES.name, OUTCOMES.pack(("s",)), encode_value(OutcomeRow(1, bytes(32), b"\xa0")))
    return {table.name: list(overlay.scan(table.name, b"", None)) for table in SYSTEM_TABLES}


def _places() -> Iterator[tuple[str, bytes, bytes]]:
    for table in (JOURNAL, BLOBS, HEAD, TIMERS, OUTBOX_NODE, WATERMARKS, OUTCOMES):
        for key, value in _rows()[table.name]:
            yield table.name, key, value


def _damaged(data: bytes) -> str:
    """The first byte chooses a row; the rest is put in its place. All is then read as a start and a replay would."""
    places = list(_places())
    table, key, sound = places[(data[0] if data else 0) % len(places)]
    rows = MemoryRows([each.name for each in SYSTEM_TABLES])
    for name, kept in _rows().items():
        rows.load(name, [(k, data[1:] if (name, k) == (table, key) else v) for k, v in kept])
    head = journal.read_head(rows)
    assert head is not None
    last = bytes(32)
    for record, digest in journal.records(rows, previous=bytes(32)):
        last = digest
        for event in record.events:
            journal.event_of(rows, event, record.index)
    Timers.load(rows)
    for each in (OUTBOX_NODE, WATERMARKS, OUTCOMES):
        for _, value in rows.scan(each.name, b"", None):
            decode_value(each.value, value)
    if table in (JOURNAL.name, BLOBS.name) and data[1:] != sound and last == head.hash:
        raise Broken("a damaged journal passes for a sound one")
    return "unnoticed" if data[1:] != sound else "sound"


TARGETS = (
    Target(
        "feed",
        "a file of blocks and votes: JSON lines or a CBOR sequence",
        _feed,
        _feed_seeds,
        allowed=(FeedFileError,),
        tokens=(b"\n", b"{}", b"\xa2\x64body", b"\x67message", b'{"message": "', b'"body": ', b"\x80", b"\xff", b"\x9a\xff\xff\xff\xff"),
    ),
    Target(
        "config",
        "overseer.toml, environment and flags",
        _config,
        _config_seeds,
        allowed=(ConfigError,),
        tokens=(
            b"\0",
            b"=",
            b"[",
            b"]",
            b'"',
            b"\n",
            b"0x",
            b",",
            b"-1",
            b"1e999",
            b"inf",
            b"nan",
            b"true",
            b"{",
            b"1979-05-27",
            b"'''",
            b"nats://[",
        ),
        bytes_max=32 * 1024 * 1024,
    ),
    Target(
        "key_file",
        "a file of development keys",
        _key_file,
        lambda: [Keyring.from_seed("0", 2, ed25519_every=2).to_json()],
        allowed=(KeyFileError,),
        tokens=(b'"', b"[", b"{", b"sr25519", b"ed25519", b" ", b"\\u0000"),
    ),
    Target(
        "seed_file",
        "an nkey seed file",
        _seed_file,
        lambda: [_a_seed(), b"SUAM", b""],
        allowed=(UnusableKey,),
        tokens=(b"S", b"=", b"\xff", b"\0", b"SU"),
    ),
    Target(
        "seal",
        "the SEAL of a store",
        _seal,
        lambda: [b"1000\n", b"0\n", b"999\nMANIFEST-000005 120 " + b"ab" * 32 + b"\n"],
        allowed=(StoreCorrupted,),
        tokens=(b"9" * 5000, b"-", b"_", b"\xff", b"MANIFEST-"),
        input_bytes_max=8192,
    ),
    Target(
        "identity",
        "the identity row of a store",
        _identity,
        lambda: [pack_identity(StoreIdentity("node", "votes_db", 1))],
        allowed=(WrongStore, StoreCorrupted),
        tokens=(b"\xff", b"\xf9\x7e\x00", b"\xc2\x49\x01" + bytes(8), b"\xd8\x1c\x81\xd8\x1d\x00"),
    ),
    Target(
        "run_file",
        "run.json of a node",
        _run_file,
        lambda: [msgspec.json.encode(RunInfo(node="n", run_id="r", pid=1, url="u", http_port=0, started_ms=0))],
        allowed=(NotRunning,),
        tokens=(b'"', b"{", b"[", b"1e9", b"\xff", b"null"),
    ),
    Target(
        "journal",
        "damaged rows of a store: records, blobs, head, timers, outgoing messages, watermarks, outcomes",
        _damaged,
        lambda: [bytes((at,)) + value for at, (_, _, value) in enumerate(_places())],
        allowed=(JournalBroken, StoreError, CodecError),
        tokens=(
            b"\xff",
            b"\xc2\x49\x01" + bytes(8),
            b"\xc4\x82\x1a\x7f\xff\xff\xff\x01",
            b"\xd8\x1c\x81\xd8\x1d\x00",
            b"\xf6",
            b"\xa0",
            b"\x80",
        ),
    ),
)
