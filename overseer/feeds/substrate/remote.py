"""What is asked of a remote node: headers, blocks, storage, runtimes. Answers are checked for their form, blocks for their hash."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import anyio
import anyio.to_thread

from overseer.feeds.substrate.header import RemoteHeader, hex_bytes, read_header
from overseer.feeds.substrate.link import Link
from overseer.feeds.substrate.runtime import Runtime
from overseer.feeds.substrate.troubles import RemoteLies, RemotePruned, RemoteRefused, Unreadable

__all__ = ["Head", "Remote", "RuntimeVersion", "Runtimes"]

_FINAL = "chain_subscribeFinalizedHeads"

_HASH_BYTES = 32
# Runtimes kept: a chain changes its runtime every few weeks.
_RUNTIMES_MAX = 4
_METADATA_BYTES_MAX = 8 * 1024 * 1024
_EXTRINSICS_MAX = 50_000
# Error of JSON-RPC for a method that is not there.
_NO_METHOD = -32601


class Head(NamedTuple):
    """A block that the remote told of by itself, and whether as final."""

    header: RemoteHeader
    is_final: bool


class RuntimeVersion(NamedTuple):
    name: str
    spec: int


class Runtimes:
    """The runtimes read so far, the latest used of them; what cannot be read is remembered as such."""

    def __init__(self) -> None:
        self._known: OrderedDict[RuntimeVersion, Runtime | Unreadable] = OrderedDict()
        self._reading = anyio.Lock()

    async def get(self, remote: "Remote", at: bytes) -> Runtime:
        """The runtime by which the children of block `at` are to be read. Raises RemoteError, Unreadable."""
        version = await remote.version(at)
        async with self._reading:
            found = self._known.get(version)
            if found is None:
                found = await self._read(remote, at)
                self._known[version] = found
            self._known.move_to_end(version)
            while len(self._known) > _RUNTIMES_MAX:
                self._known.popitem(last=False)
        if isinstance(found, Unreadable):
            raise found
        return found

    async def _read(self, remote: "Remote", at: bytes) -> Runtime | Unreadable:
        data = await remote.metadata(at)
        try:
            # A second for a large one.
            return await anyio.to_thread.run_sync(Runtime, data)
        except Unreadable as error:
            return error


class Remote:
    """One node, over one connection. All methods raise RemoteError."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def chain_name(self) -> str:
        return str(await self._link.call("system_chain"))[:100]

    async def header(self, block: bytes) -> RemoteHeader | None:
        """None for a block that it does not know."""
        value = await self._link.call("chain_getHeader", _hex(block))
        return None if value is None else read_header(value, block)

    async def best(self) -> RemoteHeader:
        return read_header(await self._link.call("chain_getHeader"))

    async def finalized(self) -> RemoteHeader:
        block = hex_bytes(await self._link.call("chain_getFinalizedHead"), _HASH_BYTES, "the finalized head")
        header = await self.header(block)
        if header is None:
            raise RemoteLies(f"it does not know its own finalized block {block.hex()}")
        return header

    async def hashes(self, numbers: Sequence[int]) -> list[bytes | None]:
        """Of the remote's best chain at these heights; None above its end."""
        value = await self._link.call("chain_getBlockHash", list(numbers))
        if not isinstance(value, list) or len(cast(list[Any], value)) != len(numbers):
            raise RemoteLies(f"{len(numbers)} block hashes are asked for, and another number comes")
        return [None if each is None else hex_bytes(each, _HASH_BYTES, "a block hash") for each in cast(list[Any], value)]

    async def extrinsics(self, block: bytes) -> list[bytes]:
        """Of a block, each with its length before it."""
        value = await self._link.call("chain_getBlock", _hex(block))
        if value is None:
            raise RemotePruned(f"it has not block {block.hex()}")
        inner = _object(_object(value, "a block").get("block"), "a block")
        listed = inner.get("extrinsics")
        if not isinstance(listed, list) or len(cast(list[Any], listed)) > _EXTRINSICS_MAX:
            raise RemoteLies("a block without a list of extrinsics")
        extrinsics = [hex_bytes(each, None, "an extrinsic") for each in cast(list[Any], listed)]
        # Raises where they come with another block's header.
        read_header(inner.get("header"), block)
        return extrinsics

    async def storage(self, key: bytes, at: bytes) -> bytes | None:
        value = await self._link.call("state_getStorage", _hex(key), _hex(at))
        return None if value is None else hex_bytes(value, None, "a stored value")

    async def version(self, at: bytes) -> RuntimeVersion:
        """Of the state that block `at` leaves: its children are executed by it."""
        value = _object(await self._link.call("state_getRuntimeVersion", _hex(at)), "a runtime version")
        name, spec = value.get("specName"), value.get("specVersion")
        if not isinstance(name, str) or not isinstance(spec, int):
            raise RemoteLies("a runtime version without a name and a number")
        return RuntimeVersion(name[:100], spec)

    async def metadata(self, at: bytes) -> bytes:
        return hex_bytes(await self._link.call("state_getMetadata", _hex(at)), None, "metadata", most=_METADATA_BYTES_MAX)

    async def follow(self) -> None:
        """Subscribe to the heads of all forks, or of the best one where there is no more, and to finality."""
        try:
            await self._link.subscribe("chain_subscribeAllHeads")
        except RemoteRefused as refused:
            if refused.code != _NO_METHOD:
                raise
            await self._link.subscribe("chain_subscribeNewHeads")
        await self._link.subscribe(_FINAL)

    async def head(self, within_s: float) -> Head | None:
        """What it tells next; None when that is nothing in time."""
        update = await self._link.update(within_s)
        return None if update is None else Head(read_header(update.value), update.subscription == _FINAL)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RemoteLies(f"{what} that is no object")
    return cast(Mapping[str, Any], value)
