"""`overseer make ...`: valid, signed input, from a seed or a key file, ready to be piped into `overseer send`.

overseer make bundle --valid 0-6 --invalid 7,8 | overseer send register_vote -

Without --validators or --keys the keys are those of the development chain that `overseer run` feeds, session by session.
"""

import contextlib
import json as json_module
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from messages.chain_api import Best, Header
from messages.message import Message
from messages.polkadot import VoteKind
from messages.scale import candidate_hash
from overseer.cli import common
from overseer.cli.common import examples, load_settings, plain_message
from overseer.feeds.author import genesis_of
from overseer.feeds.endless import EndlessChain, EndlessShape
from overseer.feeds.keyring import KeyFileError, Keyring
from overseer.feeds.make import make_block, make_bundle, make_receipt, make_validators, make_vote
from overseer.nats.keys import UnusableKey
from overseer.nats.tls import UnusableCertificate
from overseer.node.client import Refused
from overseer.node.folder import NotRunning
from overseer.ports.bus import BusError
from overseer.settings import ConfigError, Loaded

__all__ = ["make"]

make = typer.Typer(
    help="Make valid, signed input: keys, receipts, votes, bundles, blocks.\n\nAs it comes, it fits the development chain that "
    "`overseer run` feeds (its seed 0, its validators of the session).",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

# The feed's own by default (feed.seed).
DEV_SEED = "0"
_FIRST_SESSION = 1
# How long the running node is waited for, to be reached and to answer: this is a convenience.
_NODE_MS = 2_000

Seed = Annotated[str, typer.Option(help="Everything follows from it: the same seed makes the same keys and candidates.")]
Keys = Annotated[Path | None, typer.Option("--keys", help="A key file, instead of the seed's keys.", show_default=False)]
Count = Annotated[
    int | None,
    typer.Option(
        "--validators", min=1, max=10_000, help="A set of so many keys of the seed (default: the development chain's).", show_default=False
    ),
]
SessionIndex = Annotated[int, typer.Option("--session", min=0, help="Session index.")]
VotedSession = Annotated[
    int | None,
    typer.Option("--session", min=0, help="Session index (default: that of the node that runs here, else 1).", show_default=False),
]
ParaId = Annotated[int, typer.Option("--para", min=0, help="Parachain id.")]
RelayParent = Annotated[str | None, typer.Option("--relay-parent", help="The relay parent (default: the genesis).", show_default=False)]
Label = Annotated[str, typer.Option("--label", help="Tells candidates of one seed apart.")]


def _present_session(given: int | None) -> int:
    """The session given, else that of the running node's best block; 1 where no node runs or none answers."""
    if given is not None:
        return given
    # Where the configuration is broken, the other commands say so: this one works without any.
    with contextlib.suppress(ConfigError, NotRunning, UnusableKey, UnusableCertificate, BusError, Refused):
        return anyio.run(_session_of_node, load_settings())
    return _FIRST_SESSION


async def _session_of_node(loaded: Loaded) -> int:
    async with common.running_client(loaded, wait_ms=_NODE_MS) as client:
        best = await client.query(Best(), timeout_ms=_NODE_MS)
    assert isinstance(best, Header)
    return best.session


def _keyring(seed: str, keys: Path | None, count: int | None, session: int) -> Keyring:
    """A key file's keys, else `count` of the seed, else those of the seed's development chain in that session."""
    if keys is None and count is None:
        return EndlessChain(seed, EndlessShape()).keyring(session)
    if keys is None:
        return make_validators(seed, count or 1)
    try:
        return Keyring.from_json(keys.read_bytes())
    except (OSError, KeyFileError) as error:
        common.fail(f"{keys} is no key file: {error}", "Make one with `overseer make validator --count 10 > keys.json`")


def _hash(text: str, what: str) -> bytes:
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) != 32:
        common.fail(f"The {what} {text!r} is not a hash.", "A hash is 64 hexadecimal digits, with or without 0x")
    return data


def _indices(text: str, count: int) -> list[int]:
    """`0-6,9` -> [0, ..., 6, 9]."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        try:
            first, last = int(low), int(high or low)
        except ValueError:
            common.fail(f"{part!r} is not a validator index or a range.", "Write indices like 0-6,9.")
        if first > last:
            common.fail(f"{part!r} is an empty range.", f"Write the lower index first: {last}-{first}.")
        if last >= count:
            common.fail(f"{part!r} is outside the set of {count} validators.", f"Indices are 0 to {count - 1}; see --validators.")
        found.extend(range(first, last + 1))
    return found


def _print(message: Message) -> None:
    typer.echo(json_module.dumps(plain_message(message)))


def _receipt(seed: str, label: str, para: int, relay_parent: str | None) -> Any:
    parent = _hash(relay_parent, "relay parent") if relay_parent else genesis_of(seed)
    return make_receipt(f"{seed}/{label}", para_id=para, relay_parent=parent)


@make.command(
    epilog=examples("overseer make validator --count 10 > keys.json", "overseer make bundle --keys keys.json --valid 0-6 --invalid 7")
)
def validator(
    seed: Seed = DEV_SEED,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many keys.")] = 1,
    ed25519: Annotated[bool, typer.Option("--ed25519", help="Ed25519 instead of sr25519 keys.")] = False,
) -> None:
    """Validator keys as a key file on stdout (it holds secrets: keep it to yourself)."""
    typer.echo(make_validators(seed, count, ed25519_every=1 if ed25519 else 0).to_json().decode())


@make.command(epilog=examples("overseer make receipt --label other --para 2000"))
def receipt(seed: Seed = DEV_SEED, label: Label = "candidate", para: ParaId = 1000, relay_parent: RelayParent = None) -> None:
    """A candidate receipt with its hash."""
    made = _receipt(seed, label, para, relay_parent)
    bundle = make_bundle(make_validators(seed, 1), made, [(0, VoteKind.EXPLICIT_VALID)], session=0, block_number=0)
    typer.echo(json_module.dumps({"candidate_hash": f"0x{candidate_hash(made).hex()}", "candidate": plain_message(bundle)["candidate"]}))


@make.command(epilog=examples("overseer make vote --index 3 --kind explicit_invalid"))
def vote(
    index: Annotated[int, typer.Option(min=0, help="The validator's index in its session.")],
    kind: Annotated[VoteKind, typer.Option(help="Kind of statement.")],
    seed: Seed = DEV_SEED,
    keys: Keys = None,
    count: Count = None,
    session: VotedSession = None,
    label: Label = "candidate",
    para: ParaId = 1000,
    relay_parent: RelayParent = None,
) -> None:
    """One signed vote, as it stands in a bundle's `explicit_votes`: [validator, kind, signature, hashes]."""
    session = _present_session(session)
    made = _receipt(seed, label, para, relay_parent)
    ring = _keyring(seed, keys, count, session)
    if index >= len(ring):
        common.fail(f"validator {index} is not in the set of {len(ring)}.", f"Indices are 0 to {len(ring) - 1}; see --validators.")
    several = [candidate_hash(made), bytes(32)] if kind is VoteKind.APPROVAL_MULTIPLE else []
    parent = made.descriptor.relay_parent
    signed = make_vote(ring[index], index, kind, candidate=candidate_hash(made), session=session, relay_parent=parent, candidates=several)
    shown = [signed.validator, signed.kind.value, f"0x{signed.signature.hex()}", [f"0x{h.hex()}" for h in signed.candidates]]
    typer.echo(json_module.dumps(shown))


@make.command(
    epilog=examples(
        "overseer make bundle --valid 0-6 --invalid 7 | overseer send register_vote -",
        "overseer make bundle --backing 0,1 --invalid 2-8 --label bad --session 2 > bundle.json",
    )
)
def bundle(
    valid: Annotated[str, typer.Option(help="Who votes valid: indices like 0-6,9.")] = "0",
    invalid: Annotated[str, typer.Option(help="Who votes invalid.")] = "1",
    backing: Annotated[str, typer.Option(help="Who backed it (seconded).")] = "",
    approving: Annotated[str, typer.Option(help="Who approved it.")] = "",
    seed: Seed = DEV_SEED,
    keys: Keys = None,
    count: Count = None,
    session: VotedSession = None,
    label: Label = "candidate",
    para: ParaId = 1000,
    relay_parent: RelayParent = None,
    number: Annotated[int, typer.Option(min=0, help="Block number (a hint).")] = 1,
) -> None:
    """A dispute's gossip with real signatures: the body of `register_vote`."""
    session = _present_session(session)
    ring = _keyring(seed, keys, count, session)
    kinds = (
        (backing, VoteKind.BACKING_SECONDED),
        (valid, VoteKind.EXPLICIT_VALID),
        (approving, VoteKind.APPROVAL),
        (invalid, VoteKind.EXPLICIT_INVALID),
    )
    ballots = [(index, kind) for text, kind in kinds for index in _indices(text, len(ring))]
    if not ballots:
        common.fail("Nobody votes.", "Give --valid, --invalid, --backing or --approving")
    try:
        _print(make_bundle(ring, _receipt(seed, label, para, relay_parent), ballots, session=session, block_number=number))
    except ValueError as error:
        common.fail(f"This cannot be one bundle: {error}.", "A validator backs once; other votes may be as many as there are kinds.")


@make.command(
    epilog=examples(
        "overseer make block --number 1 --starts-session | overseer send import_block -      (on a node with --feed none)",
        "overseer make block --parent 0x... --number 2 --include 0x... | overseer send import_block -",
    )
)
def block(
    parent: Annotated[str | None, typer.Option(help="The parent's hash (default: the seed's genesis).", show_default=False)] = None,
    number: Annotated[int, typer.Option(min=1, help="The block's number.")] = 1,
    seed: Seed = DEV_SEED,
    session: SessionIndex = 1,
    starts_session: Annotated[bool, typer.Option("--starts-session", help="It carries the session's validator set.")] = False,
    keys: Keys = None,
    count: Count = None,
    include: Annotated[list[str] | None, typer.Option(help="Hash of an included candidate; may be repeated.", show_default=False)] = None,
    back: Annotated[list[str] | None, typer.Option(help="Hash of a backed candidate; may be repeated.", show_default=False)] = None,
    salt: Annotated[str, typer.Option(help="Tells equal siblings apart.")] = "",
) -> None:
    """A block on a parent: the body of `import_block`."""
    made = make_block(
        _hash(parent, "parent") if parent else genesis_of(seed),
        number,
        session=session,
        epoch_start=number if starts_session else 0,
        session_start=_keyring(seed, keys, count, session).validators if starts_session else None,
        backed=[_hash(text, "candidate") for text in back or []],
        included=[_hash(text, "candidate") for text in include or []],
        salt=salt.encode(),
    )
    _print(made)
