"""A JSON-RPC server on a free port of this machine, with the answers that a Substrate node gives of a `RemoteChain`; and with faults."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.feeds.substrate.remote_chain import RemoteChain, StoredBlock

__all__ = ["Refusal", "RpcServer", "rpc_server"]

# Given the result of a method, what is answered instead.
Fault = Callable[[str, list[Any], Any], Any]

# Of a fault: no answer at all.
SILENCE = object()


class Refusal(Exception):
    """An error of JSON-RPC."""

    def __init__(self, code: int, text: str, data: str | None = None) -> None:
        super().__init__(text)
        self.error = {"code": code, "message": text, **({} if data is None else {"data": data})}


class RpcServer:
    """The server. `fault` may change an answer, refuse (Refusal), or be silent (SILENCE)."""

    def __init__(self, chain: RemoteChain) -> None:
        self.chain = chain
        self.fault: Fault = lambda method, params, result: result
        self.calls: Counter[str] = Counter()
        self.connections: list[ServerConnection] = []
        self.opened = 0
        self._subscribed: dict[tuple[ServerConnection, str], int] = {}
        self._outbox, self._told = anyio.create_memory_object_stream[tuple[ServerConnection, str]](100_000)
        self._next = 0
        self.url = ""

    async def drop(self) -> None:
        """End all connections, without a word."""
        for connection in list(self.connections):
            connection.transport.abort()

    async def serve(self, connection: ServerConnection) -> None:
        self.opened += 1
        self.connections.append(connection)
        try:
            async for text in connection:
                asked = json.loads(text)
                answer = self._answer(connection, asked["method"], asked["params"])
                if answer is not SILENCE:
                    await connection.send(
                        answer if isinstance(answer, (bytes, str)) else json.dumps({"jsonrpc": "2.0", "id": asked["id"], **answer})
                    )
        except ConnectionClosed:
            pass
        finally:
            self.connections.remove(connection)
            self._subscribed = {key: value for key, value in self._subscribed.items() if key[0] is not connection}

    def _answer(self, connection: ServerConnection, method: str, params: list[Any]) -> Any:
        self.calls[method] += 1
        try:
            if method.startswith("chain_subscribe"):
                self._next += 1
                result: Any = self._next
            else:
                result = self._result(method, params)
            result = self.fault(method, params, result)
        except Refusal as refusal:
            return {"error": refusal.error}
        if method.startswith("chain_subscribe"):
            self._subscribed[connection, method] = result
        if result is SILENCE or isinstance(result, (bytes, _Raw)):
            return result.text if isinstance(result, _Raw) else result
        return {"result": result}

    def _result(self, method: str, params: list[Any]) -> Any:
        chain = self.chain

        def block(place: int) -> StoredBlock | None:
            return chain.blocks.get(bytes.fromhex(params[place][2:])) if len(params) > place else chain.blocks[chain.best]

        match method:
            case "system_chain":
                return "Little Relay"
            case "chain_getHeader":
                return None if (found := block(0)) is None else found.header
            case "chain_getFinalizedHead":
                return "0x" + chain.final.hex()
            case "chain_getBlockHash":
                return [None if (found := chain.at(number)) is None else "0x" + found.hex() for number in params[0]]
            case "chain_getBlock":
                if (found := block(0)) is None:
                    return None
                return {"block": {"header": found.header, "extrinsics": ["0x" + e.hex() for e in found.extrinsics]}, "justifications": None}
            case "state_getRuntimeVersion":
                return {"specName": "little", "specVersion": _known(block(0)).spec, "implVersion": 0, "transactionVersion": 1}
            case "state_getMetadata":
                return "0x" + chain.runtimes[_known(block(0)).spec].metadata.hex()
            case "state_getStorage":
                value = chain.stored(bytes.fromhex(params[0][2:]), _known(block(1)).hash)
                return None if value is None else "0x" + value.hex()
            case _:
                raise Refusal(-32601, "Method not found")

    def hear(self, block: StoredBlock, final: bool) -> None:
        kinds = ("chain_subscribeFinalizedHeads",) if final else ("chain_subscribeAllHeads", "chain_subscribeNewHeads")
        for (connection, method), number in list(self._subscribed.items()):
            if method in kinds:
                params = {"subscription": number, "result": block.header}
                self._outbox.send_nowait((connection, json.dumps({"jsonrpc": "2.0", "method": "chain_head", "params": params})))

    async def tell(self) -> None:
        async for connection, text in self._told:
            try:
                await connection.send(text)
            except ConnectionClosed:
                continue

    def close(self) -> None:
        self._outbox.close()
        self._told.close()


class _Raw:
    """Text that is sent as it is."""

    def __init__(self, text: str) -> None:
        self.text = text


def raw(text: str) -> Any:
    return _Raw(text)


def _known(block: StoredBlock | None) -> StoredBlock:
    if block is None:
        raise Refusal(4003, "Client error: UnknownBlock: State already discarded")
    return block


@asynccontextmanager
async def rpc_server(chain: RemoteChain) -> AsyncIterator[RpcServer]:
    """The chain served until the end of the block."""
    server = RpcServer(chain)
    chain.heard.append(server.hear)
    try:
        async with (
            serve(server.serve, "127.0.0.1", 0, close_timeout=1, compression=None) as listening,
            anyio.create_task_group() as tasks,
        ):
            server.url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            tasks.start_soon(server.tell)
            try:
                yield server
            finally:
                tasks.cancel_scope.cancel()
    finally:
        chain.heard.remove(server.hear)
        server.close()
