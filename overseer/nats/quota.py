"""Room for what must be told: a nearly full stream takes no commands past the subsystems' endpoints.

The endpoints refuse awaited commands from a certain fill on. What people publish to the stream themselves passes no endpoint,
and a stream's limits do not tell a command from a fact. So the overseer takes the outside senders' subjects off the stream
meanwhile: their publishes are refused at once ("no responders"), what is stored stays, consumers do not notice. What
subsystems say, and what their endpoints had already let in, has the rest of the stream for itself, and the subjects come
back when there is room.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from messages.subjects import node_stream
from overseer.nats.accounts import OVERSEER, request_sender
from overseer.nats.provision import Api, call

__all__ = ["CommandQuota", "Fill", "fill_of"]

# Outside commands are taken again below this share of the fill from which they are refused: not back and forth.
_REOPEN_SHARE = 0.75


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """How full a stream is (0 to 1), whether outside commands are refused, and whether that has just changed."""

    fill: float
    closed: bool
    changed: bool


def fill_of(info: Mapping[str, Any]) -> float:
    """The larger share of its limits (messages, bytes) that a stream uses, of an answer of STREAM.INFO."""
    state, config = info["state"], info["config"]
    used = ((state["messages"], config.get("max_msgs", -1)), (state["bytes"], config.get("max_bytes", -1)))
    return max((is_ / most for is_, most in used if most > 0), default=0.0)


class CommandQuota:
    """The gate of one node's stream. `percent`: how full it may be before outside commands are refused."""

    def __init__(self, api: Api, node: str, subsystems: Sequence[str], *, percent: int) -> None:
        self._api = api
        self._stream = node_stream(node)
        self._everybody = f"overseer.{node}.*.cmd.>"
        insiders = (OVERSEER, *(name for subsystem in subsystems for name in (subsystem, request_sender(subsystem))))
        self._insiders = [f"overseer.{node}.{name}.cmd.>" for name in insiders]
        self._percent = percent

    async def look(self) -> Fill:
        """See how full the stream is, and close or open it to outside commands accordingly. Raises ApiError, BusError."""
        info = await call(self._api, f"STREAM.INFO.{self._stream}")
        fill = fill_of(info)
        subjects: list[str] = info["config"]["subjects"]
        closed = self._everybody not in subjects
        wanted = fill * 100 > self._percent * (_REOPEN_SHARE if closed else 1)
        if wanted != closed:
            others = [subject for subject in subjects if subject != self._everybody and subject not in self._insiders]
            now = [*(self._insiders if wanted else [self._everybody]), *others]
            await call(self._api, f"STREAM.UPDATE.{self._stream}", {**info["config"], "subjects": now})
        return Fill(fill=fill, closed=wanted, changed=wanted != closed)
