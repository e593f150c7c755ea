"""Those who speak to the subsystem under test: other subsystems with incarnations and ids in sequence, operators, feeds."""

from collections.abc import Mapping

from messages.codec import encode
from messages.message import Kind, Message, Spec
from messages.overseer import IncarnationStarted
from messages.subjects import HEADER_COMMAND_ID, HEADER_ID, MessageId, build, headers_of
from overseer.ports.bus import Outgoing
from overseer.ports.entropy import Entropy
from overseer.runner.intake import is_outside
from overseer.testing.worlds import World

__all__ = ["Voice"]


class Voice:
    """One sender of one node. `say` announces its incarnation first, as a real one does."""

    def __init__(self, world: World, node: str, sender: str, entropy: Entropy) -> None:
        self.node = node
        self.sender = sender
        self.incarnation = entropy.draw(16)
        # The journal index this sender claims to be at.
        self.index = 0
        self._world = world
        self._entropy = entropy

    def message_id(self) -> str:
        """The id of the next message."""
        self.index += 1
        return MessageId(self.sender, self.incarnation.hex(), self.index, 0).text()

    async def announce(self, *, previous: bytes | None = None) -> int:
        """Tell the node's stream of this incarnation. Returns the sequence."""
        fact = IncarnationStarted(incarnation=self.incarnation, previous=previous)
        return await self._world.append(self._outgoing(fact.spec, build(self.node, self.sender, fact.spec), encode(fact), {}))

    async def restart(self, *, announce: bool = True) -> None:
        """As with a new store: another incarnation, announced or (a fault of the sender's) not."""
        previous, self.incarnation, self.index = self.incarnation, self._entropy.draw(16), 0
        if announce:
            await self.announce(previous=previous)
        else:
            self.index = 1

    async def say(
        self,
        message: Message,
        *,
        command_id: str = "",
        headers: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
        subject: str | None = None,
    ) -> int:
        """Store one message; `headers` are laid over the proper ones (None removes one). Returns its sequence."""
        spec = message.spec
        if self.index == 0 and spec.kind is not Kind.NETWORK and not is_outside(self.sender):
            await self.announce()
        laid: dict[str, str | None] = {HEADER_COMMAND_ID: command_id or None, **(headers or {})}
        to = subject if subject is not None else build(self.node, self.sender, spec)
        return await self._world.append(self._outgoing(spec, to, encode(message) if body is None else body, laid))

    def _outgoing(self, spec: Spec, subject: str, body: bytes, laid: Mapping[str, str | None]) -> Outgoing:
        proper: dict[str, str | None] = {**headers_of(spec)}
        if not is_outside(self.sender):
            proper[HEADER_ID] = self.message_id()
        return Outgoing(subject, {key: value for key, value in {**proper, **laid}.items() if value is not None}, body)
