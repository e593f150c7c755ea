"""Checks of a node's folder and configuration, of a running node too: nothing in it is changed."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from messages.subjects import node_stream
from overseer.checkup.check import Check, Patient, Told, ok, warning, wrong
from overseer.consensus.identity import IdentityFolder
from overseer.consensus.roster import BadNetwork, read_network
from overseer.nats.account_text import BUS
from overseer.nats.keys import KeyFolder, UnusableKey
from overseer.nats.sites import log_stream
from overseer.node.bus import node_users
from overseer.node.catalogue import CATALOGUE, build_sites, build_subsystem, build_subsystems, kept_settings
from overseer.node.folder import NodeFolder, NotRunning, NotTold
from overseer.node.hosting import STORE_SCHEMA
from overseer.ports.store import StoreError
from overseer.rocks.reader import RocksReader
from overseer.runner import journal
from overseer.settings import Loaded
from overseer.sites.layout import ElectionsElsewhere, check_stores, site_stores

__all__ = ["FOLDER"]

_OTHERS = 0o077
STREAMS_FULL = 0.8
# A node that makes blocks takes a checkpoint in days; one that is older than this says little.
CHECKPOINT_S = 60 * 86_400


def _folder(patient: Patient) -> Path:
    return patient.loaded.config.data_dir.absolute()


def _ran(patient: Patient) -> Loaded:
    """What the node was told when it last ran: keys and stores are those, whatever flags this command was not given."""
    return kept_settings(patient.loaded)


def check_config(patient: Patient) -> Iterator[Told]:
    """Unknown keys, values out of bounds."""
    for problem in patient.config_error.splitlines():
        yield wrong(problem, "Correct it; see `overseer config --example`. What follows is checked with the defaults")
    if not patient.config_error:
        yield ok(str(patient.loaded.file or "defaults and environment"))


def check_settings(patient: Patient) -> Iterator[Told]:
    """What a node that is not a development chain must say itself."""
    config = patient.loaded.config
    if config.feed.source == "dev":
        yield ok(f"the development chain of seed {config.feed.seed}")
        return
    fine = True
    if config.genesis is None:
        fine = False
        yield warning("genesis is not set: the chain is that of development", "Set `genesis` to the hash of your chain's first block")
    if config.governance.authority is None:
        fine = False
        what = "governance.authority is not set: nobody can end governance mode"
        if config.genesis is None:
            what = "governance.authority is not set: the development key, which everybody has, can end governance mode"
        yield warning(what, "Set `governance.authority` to an Ed25519 public key")
    if fine:
        yield ok("genesis and governance.authority are set")


def check_folder(patient: Patient) -> Iterator[Told]:
    """It is there, ours, and private."""
    folder = _folder(patient)
    if not folder.exists():
        yield ok(f"there is no {folder} yet: `overseer run` makes it")
        return
    if not folder.is_dir():
        yield wrong(f"{folder} is no folder", "Name another one with --data-dir")
        return
    status = folder.stat()
    if status.st_uid != os.getuid():
        yield wrong(f"{folder} belongs to user {status.st_uid}, this is {os.getuid()}", "Run as that user, or chown -R the folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        yield wrong(f"{folder} cannot be written", f"chmod u+rwx {folder}")
    if status.st_mode & _OTHERS:
        yield warning(f"others can enter {folder}", f"chmod 700 {folder}")
    else:
        yield ok(str(folder))


def check_run(patient: Patient) -> Iterator[Told]:
    """Whether a node runs here, and whether what others are told of it is true."""
    folder = NodeFolder(_folder(patient))
    try:
        info = folder.last_run()
    except NotRunning:
        if folder.is_locked():
            yield _held(folder)
        elif folder.run_file.exists():
            yield warning(f"{folder.run_file} cannot be read", "Remove it: the next start writes it anew")
        else:
            yield ok("no node ran here yet")
        return
    if info.node != patient.loaded.config.node:
        remedy = f"Give --node {info.node}, or set `node`; a folder belongs to one node"
        yield wrong(f"the last run was of node {info.node}, the configuration says {patient.loaded.config.node}", remedy)
    try:
        yield ok(f"a node runs here (pid {folder.running().pid}): overseer status")
    except NotTold:
        yield _held(folder)
    except NotRunning:
        yield ok("no node runs here now")


def _held(folder: NodeFolder) -> Told:
    remedy = "Wait a moment. If it stays so, end the process that holds node.lock (fuser), and start the node again"
    return warning(str(NotTold(folder.path)), remedy)


def check_keys(patient: Patient) -> Iterator[Told]:
    """There, private, readable, and nobody else's; the identity too."""
    loaded = _ran(patient)
    folder = KeyFolder(loaded.config.keys_dir)
    if not folder.folder.is_dir():
        yield ok("there are none yet: `overseer run` makes them")
        return
    users = node_users([s.declaration for s in build_subsystems(loaded).values()], build_sites(loaded))
    fine = 0
    for step in (folder.check_folder, *(lambda user=user: folder.public(user) for user in users)):
        try:
            step()
            fine += 1
        except UnusableKey as error:
            yield wrong(f"{error.path}: {error.problem}", error.remedy)
        except PermissionError as error:
            yield wrong(f"{error.filename}: {error.strerror}", "Run as the user that the key belongs to, or chown it")
    for path in folder.strangers(users):
        yield warning(f"{path} is nobody's key", "Remove it, if you know what it was")
    if loaded.config.identity_dir.is_dir():
        try:
            IdentityFolder(loaded.config.identity_dir).load()
        except (UnusableKey, OSError) as error:
            yield wrong(f"the node's identity: {error}", "Restore keys/identity from a backup: a new one is another node")
    sessions = NodeFolder(_folder(patient)).sessions
    if sessions.is_dir() and sessions.stat().st_mode & _OTHERS:
        yield wrong(f"others can enter {sessions}", f"chmod 700 {sessions}")
    yield ok(f"{max(0, fine - 1)} of {len(users)} keys can be used")


# ------------------------------------------------------------------------------------------------ stores


def _stores(patient: Patient) -> list[Path]:
    folder = _folder(patient) / "stores"
    return sorted(path for path in folder.glob("*") if path.is_dir() and "." not in path.name)


def check_open(patient: Patient) -> Iterator[Told]:
    """Each store is opened for reading: seal and manifest, whose it is, and whether this release can read it."""
    fine = 0
    for path in _stores(patient):
        try:
            reader = RocksReader.open_read_only(path)
        except StoreError as error:
            yield wrong(f"{path.name}: {error.what}", error.advice or f"overseer repair {path.name}")
            continue
        try:
            problems = list(_problems(reader, path, patient))
        finally:
            reader.close()
        fine += not problems
        yield from problems
    yield ok(f"{fine} stores are whole, this node's, and of a form that this release reads" if fine else "there are none yet")


def _problems(reader: RocksReader, path: Path, patient: Patient) -> Iterator[Told]:
    identity = reader.identity()
    if (identity.node, identity.subsystem) != (patient.loaded.config.node, path.name):
        what = f"{path.name}: it is the store of {identity.subsystem} on node {identity.node}, not of node {patient.loaded.config.node}"
        yield wrong(what, f"Give --node {identity.node}, or put this node's own store there")
        return
    if identity.schema > STORE_SCHEMA:
        yield wrong(f"{path.name}: its schema is {identity.schema}, this release knows {STORE_SCHEMA}", "Run the release that wrote it")
        return
    if path.name not in CATALOGUE:
        # A site of the elections: its tables are the site's own.
        return
    head = journal.read_head(reader)
    version = build_subsystem(path.name, patient.loaded).declaration.evolve_version
    if head is not None and head.evolve_version > version:
        what = f"{path.name}: its tables are of version {head.evolve_version}, this release makes version {version}"
        yield wrong(what, "Run the release that wrote it: an older one would undo what it knows")


def check_sites(patient: Patient) -> Iterator[Told]:
    """The elections are where the configuration says."""
    sites, stores = build_sites(_ran(patient)), _folder(patient) / "stores"
    try:
        check_stores(stores, sites)
        yield ok(f"{len(site_stores(stores))} of {len(sites.names)} sites have a store" if sites.names else "the elections are on one site")
    except ElectionsElsewhere as error:
        yield wrong(str(error), "Set elections.sites to what it was: elections do not move by themselves")


def check_checkpoints(patient: Patient) -> Iterator[Told]:
    """How old each store's newest one is, and what was begun and never finished."""
    running = NodeFolder(_folder(patient)).is_locked()
    ages: list[str] = []
    for store in _stores(patient):
        kept = [path for path in (store / "checkpoints").glob("[!.]*") if path.is_dir()]
        if kept:
            age_s = time.time() - max(path.stat().st_mtime for path in kept)
            ages.append(f"{store.name} {age_s / 86_400:.0f} d")
            if age_s > CHECKPOINT_S:
                what = f"the newest checkpoint of {store.name} is {age_s / 86_400:.0f} days old"
                yield warning(what, "Lower limits.checkpoint_records: a repair starts there")
        for path in (store / "checkpoints").glob(".*"):
            if not running:
                yield warning(f"{path} was begun and not finished", "The next start of the node finishes or removes it")
    yield ok(f"the newest ones: {', '.join(ages)}" if ages else "there are none yet: the first after limits.checkpoint_records records")


def check_aside(patient: Patient) -> Iterator[Told]:
    """What repairs have set aside, with its size."""
    folder = _folder(patient)
    found = sorted(path for place in ("stores", "nats", ".") for path in (folder / place).glob("*.aside-*"))
    for path in found:
        what = f"{path.relative_to(folder)} was set aside by a repair and takes {_bytes_in(path) / 1e6:.1f} MB"
        yield warning(what, f"When the node does well: rm -r {path}")
    if not found:
        yield ok("nothing was set aside")


def check_streams(patient: Patient) -> Iterator[Told]:
    """What the embedded server holds, against what it may: the streams that have this limit, each by itself."""
    nats, node = patient.loaded.config.nats, _ran(patient).config.node
    streams = _folder(patient) / "nats" / "jetstream" / "jetstream" / BUS / "streams"
    remedies = {
        node_stream(node): "See who is behind (overseer status), or raise nats.stream_bytes_max",
        log_stream(node): "Raise nats.stream_bytes_max: the elections' log is never trimmed",
    }
    there = [name for name in remedies if (streams / name).is_dir()]
    if nats.url or not there:
        yield ok("the streams are an existing server's" if nats.url else "there are none yet")
        return
    for name in there:
        # What its consumers note beside the messages has no part in the limit.
        held = _bytes_in(streams / name / "msgs")
        if held > STREAMS_FULL * nats.stream_bytes_max:
            what = f"the stream {name} takes {held / 1e6:.0f} MB, nats.stream_bytes_max is {nats.stream_bytes_max / 1e6:.0f} MB"
            yield warning(what, remedies[name])
        else:
            yield ok(f"{name}: {held / 1e6:.1f} MB of at most {nats.stream_bytes_max / 1e6:.0f} MB")


def _bytes_in(folder: Path) -> int:
    """What is removed meanwhile does not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


def check_network(patient: Patient) -> Iterator[Told]:
    """The files of the network's nodes: readable, this node among them, with the identity that it has."""
    config = patient.loaded.config
    try:
        nodes = read_network(config.network.nodes)
    except BadNetwork as error:
        yield wrong(str(error), "Fetch that node's file anew, or correct network.nodes")
        return
    if config.network.nodes is None:
        told = "feed.source is net, and network.nodes is not set"
        yield (
            wrong(told, "Set network.nodes to the folder of the nodes' files") if config.feed.source == "net" else ok("this node is alone")
        )
        return
    own = nodes.get(config.node)
    if own is None:
        remedy = f"overseer provision --describe > {config.network.nodes}/{config.node}.json   (and give it to the others)"
        yield wrong(f"{config.network.nodes} has no file of this node, {config.node}", remedy)
        return
    if config.identity_dir.is_dir():
        identity = IdentityFolder(config.identity_dir).load()
        if (identity.public, identity.box_public) != (own.signing_key, own.box_key):
            remedy = "Restore keys/identity from a backup, or describe the node anew (overseer provision --describe), at all nodes"
            yield wrong(f"{config.node}.json tells another identity than keys/identity holds", remedy)
            return
    yield ok(f"{len(nodes)} nodes, this one among them")


FOLDER: tuple[Check, ...] = (
    Check("configuration", "unknown keys and values out of bounds, in the file and the environment", check_config),
    Check("settings", "`genesis` and `governance.authority` are set, but for the development chain", check_settings),
    Check("folder", "the node's folder is there, ours, and private", check_folder),
    Check("run", "whether a node runs here, and whether `run.json` tells the truth and the same node's name", check_run),
    Check("keys", "every key is there, private and readable; the identity; `sessions`", check_keys),
    Check("stores", "each opens for reading: seal and manifest, whose it is, schema and version of its tables", check_open),
    Check("sites", "the elections are on as many sites as `elections.sites` says", check_sites),
    Check("checkpoints", "how old each store's newest is, and unfinished ones", check_checkpoints),
    Check("set aside", "what repairs have left (`*.aside-*`), with its size", check_aside),
    Check(
        "streams",
        "what the node's stream and the elections' log hold of `nats.stream_bytes_max`, on an embedded server",
        check_streams,
    ),
    Check("network", "the files of `network.nodes`, with this node's own identity among them", check_network),
)
