"""What the world is told of replicated elections: facts in the node's stream, under the name of the elections, whichever site says them."""

from blake3 import blake3

from messages.codec import encode
from messages.message import Message
from messages.overseer import IncarnationStarted
from messages.subjects import HEADER_CORRELATION, HEADER_ID, MessageId, build, headers_of
from overseer.ports.bus import Exchange, Outgoing

__all__ = ["NatsFacts"]

_SENDER = "elections"
# Elections that are known to be announced; beyond that they are announced once more, which has no effect.
_ANNOUNCED_MAX = 10_000


class NatsFacts:
    """Implements `overseer.sites.surroundings.Facts`.

    To whoever hears them, each election is an incarnation of the sender: announced as number 0 before its first fact, which then goes by
    the number of its event. A fact may be told again after its writer was replaced, the announcement as well; both are in order, so that
    a receiver's watermark lets each through once.
    """

    def __init__(self, exchange: Exchange, *, node: str) -> None:
        self._exchange = exchange
        self._node = node
        self._announced: set[str] = set()

    async def tell(self, key: str, sequence: int, place: int, message: Message) -> None:
        """See `Facts.tell`. Raises BusError."""
        if key not in self._announced:
            await self._say(key, 0, 0, IncarnationStarted(incarnation=_incarnation(key)))
            if len(self._announced) >= _ANNOUNCED_MAX:
                self._announced.clear()
            self._announced.add(key)
        await self._say(key, sequence, place, message)

    async def _say(self, key: str, sequence: int, place: int, message: Message) -> None:
        headers = {
            HEADER_ID: MessageId(_SENDER, _incarnation(key).hex(), sequence, place).text(),
            HEADER_CORRELATION: key,
            **headers_of(message.spec),
        }
        await self._exchange.publish(Outgoing(build(self._node, _SENDER, message.spec), headers, encode(message)))


def _incarnation(key: str) -> bytes:
    """The same at every site, for good."""
    return blake3(key.encode()).digest()[:16]
