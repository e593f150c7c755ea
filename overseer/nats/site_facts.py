"""What the world is told of replicated elections: facts in the node's stream, under the name of the elections, whichever site says them."""

from blake3 import blake3

from messages.codec import encode
from messages.message import Message
from messages.subjects import CONTENT_CBOR, HEADER_CONTENT_TYPE, HEADER_CORRELATION, HEADER_ID, HEADER_SCHEMA, MessageId, build
from overseer.ports.bus import Exchange, Outgoing

__all__ = ["NatsFacts"]

_SENDER = "elections"


class NatsFacts:
    """Implements `overseer.sites.surroundings.Facts`.

    A fact may be told again after its writer was replaced: its id is that of the election (in the place of an incarnation) and its event.
    """

    def __init__(self, exchange: Exchange, *, node: str) -> None:
        self._exchange = exchange
        self._node = node

    async def tell(self, key: str, sequence: int, message: Message) -> None:
        headers = {
            HEADER_ID: MessageId(_SENDER, blake3(key.encode()).digest()[:16].hex(), sequence, 0).text(),
            HEADER_CORRELATION: key,
            HEADER_SCHEMA: str(message.spec.version),
            HEADER_CONTENT_TYPE: CONTENT_CBOR,
        }
        await self._exchange.publish(Outgoing(build(self._node, _SENDER, message.spec), headers, encode(message)))
