"""How far each subsystem is behind, seen from the bus: also of one that is stopped, hangs, or is run by somebody else."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import anyio

from messages.subjects import node_stream
from overseer.nats.accounts import durable_name
from overseer.nats.provision import Api, ApiError, call
from overseer.nats.stored import stored_message
from overseer.ports.bus import BusError
from overseer.supervise.lag import Lag, LagJudge

__all__ = ["LagWatch", "look_at"]

_LOOK_MS = 2_000


async def look_at(api: Api, node: str, subsystem: str, judge: LagJudge) -> Lag:
    """One look at a subsystem's consumer on the node's stream. Raises BusError, ApiError."""
    stream = node_stream(node)
    info = await call(api, f"CONSUMER.INFO.{stream}.{durable_name(node, subsystem, stream)}")
    pending = int(info["num_pending"]) + int(info["num_ack_pending"])
    floor = int(info["ack_floor"]["stream_seq"])
    oldest_ms = await _oldest_ms(api, stream, floor + 1, _filters(info["config"])) if pending else 0
    return judge.look(time.monotonic_ns() // 1_000_000, done=floor, pending=pending, oldest_ms=oldest_ms)


def _filters(config: dict[str, Any]) -> list[str]:
    return config.get("filter_subjects") or [config.get("filter_subject") or ">"]


async def _oldest_ms(api: Api, stream: str, sequence: int, filters: Sequence[str]) -> int:
    """How long the first message from `sequence` on, that one of the filters takes, has been in the stream."""
    found = [await stored_message(api, stream, {"seq": sequence, "next_by_subj": subject}) for subject in filters]
    first = min((message for message in found if message is not None), key=lambda message: message.sequence, default=None)
    return max(0, int(datetime.now().timestamp() * 1000) - first.time_ms) if first is not None else 0


class LagWatch:
    """Looks at all subsystems again and again. `lags` holds the last look at each; empty before the first."""

    def __init__(self, api: Api, node: str, subsystems: Sequence[str], *, changed: Callable[[str, Lag], None]) -> None:
        """`changed` is told whenever a subsystem's state is another one."""
        self.lags: dict[str, Lag] = {}
        self._api = api
        self._node = node
        self._judges = {name: LagJudge() for name in subsystems}
        self._changed = changed

    async def run(self) -> None:
        """For ever. Without a bus the last look stands."""
        while True:
            for name, judge in self._judges.items():
                try:
                    lag = await look_at(self._api, self._node, name, judge)
                except (BusError, ApiError):
                    continue
                before = self.lags.get(name, Lag())
                self.lags[name] = lag
                if lag.state is not before.state:
                    self._changed(name, lag)
            await anyio.sleep(_LOOK_MS / 1000)
