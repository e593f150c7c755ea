"""Between a subsystem and the bus: whatever it sends can be altered, dropped or doubled. So malicious nodes are built."""

from collections.abc import Callable, Sequence

from overseer.ports.bus import Delivery, Line, Outgoing, StoredMessage, StreamState

__all__ = ["InterceptedLine", "Interception"]

# What is sent instead: the message itself or another, several, or none.
Interception = Callable[[Outgoing], Outgoing | Sequence[Outgoing] | None]


class InterceptedLine:
    """A line whose appends pass `change` (None: unchanged). Everything else is the line's own."""

    def __init__(self, line: Line, change: Callable[[], Interception | None]) -> None:
        self.line = line
        self._change = change

    @property
    def sender(self) -> str:
        return self.line.sender

    @property
    def stream(self) -> str:
        return self.line.stream

    async def state(self) -> StreamState:
        return await self.line.state()

    async def message_at(self, sequence: int) -> StoredMessage | None:
        return await self.line.message_at(sequence)

    async def last_own(self) -> StoredMessage | None:
        return await self.line.last_own()

    async def seek(self, sequence: int) -> None:
        await self.line.seek(sequence)

    async def pull(self, batch: int, wait_ms: int) -> list[Delivery]:
        return await self.line.pull(batch, wait_ms)

    async def ack(self, delivery: Delivery) -> None:
        await self.line.ack(delivery)

    async def connected(self) -> None:
        await self.line.connected()

    async def append(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        """Append what is made of `messages`; nothing at all counts as done."""
        change = self._change()
        if change is None:
            return await self.line.append(messages, expected_last)
        sent: list[Outgoing] = []
        for message in messages:
            made = change(message)
            sent += [made] if isinstance(made, Outgoing) else made or []
        return await self.line.append(sent, expected_last) if sent else expected_last
