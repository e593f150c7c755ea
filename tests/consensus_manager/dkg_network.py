"""N members of one DKG on one totally ordered log, under a seed: who reads, publishes or sees a block next is drawn.

A node's notes are only what it committed; a restart keeps nothing else, and may publish the last message again. A liar runs the honest
code, and its `lies` say what becomes of what it is about to publish.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TypeVar

from dkg_kit import terms_for, verify_check, wallet
from msgspec.structs import replace

from messages.codec import decode, decode_value, encode, encode_value
from messages.consensus_journal import DealTaken, Spoken
from messages.consensus_manager import Deal, GroupTransaction, OfAttempt, Phase
from messages.message import CATALOG, Kind, Message
from subsystems.consensus_manager.member import OwnEvent, Speaker, held_share, stalled
from subsystems.consensus_manager.progress import Mine, Progress, heard, own
from subsystems.consensus_manager.terms import Terms
from subsystems.consensus_manager.transcript import take

__all__ = ["Lie", "Network", "Node", "read_message"]

M = TypeVar("M", bound=Message)

# What a liar publishes in place of what the honest code says.
Lie = Callable[["Node", Message], Iterator[Message]]


def read_message(name: str, body: bytes) -> Message:
    spec = CATALOG.find(Kind.NETWORK, "consensus_manager", name)
    assert spec is not None
    return decode(spec, body)


class Node:
    """One node; `place` is None for one that only follows."""

    def __init__(self, terms: Terms, number: int, place: int | None, lies: Sequence[Lie] = ()) -> None:
        self.terms = terms
        self.number = number
        self.wallet = wallet(number)
        self.lies = lies
        self.head = terms.attempt.due + terms.attempt.delay
        self.progress = Progress(session=terms.session)
        self.mine = None if place is None else Mine(place=place)
        self.deals: dict[int, Deal] = {}
        self.position = 0
        self.outbox: list[Message] = []
        self.refused: list[Message] = []
        # Dead or away: reads and publishes nothing.
        self.away = False
        # Follows the stream, but looks at nothing of its own.
        self.deaf = False
        # Up to here the stream was when the node started.
        # Who dealt nothing in earlier attempts.
        self.absent: Sequence[int] = ()

    @property
    def honest(self) -> bool:
        return not self.lies

    def read(self, message: Message) -> None:
        """One input from the log, and all that follows from it: one commit."""
        self.position += 1
        if isinstance(message, OfAttempt):
            taken = take(self.terms, self.progress, self.deals, message, verify_check, position=self.position, absent=lambda: self.absent)
            if isinstance(taken, list):
                for event in taken:
                    if isinstance(event, DealTaken):
                        self.deals[event.deal.sender] = event.deal
                    self.progress = heard(self.progress, event)
            else:
                self.refused.append(taken)
        self.speak()

    def see_block(self) -> None:
        self.head += 1
        self.speak()

    def speak(self) -> None:
        if self.mine is None or self.deaf:
            return
        speaker = Speaker(self.terms, self.progress, self.mine, self.deals, head=self.head, wallet=self.wallet)
        for event in speaker.due():
            self._own(event)

    def _own(self, event: OwnEvent) -> None:
        assert self.mine is not None
        self.mine = own(self.mine, event)
        if isinstance(event, Spoken):
            said = [read_message(event.name, event.body)]
            for lie in self.lies:
                said = [other for message in said for other in lie(self, message)]
            self.outbox += said

    def say(self, message: OfAttempt) -> OfAttempt:
        """The message, signed by this node: for liars."""
        return replace(message, signature=self.wallet.signature(message))

    def restart(self) -> None:
        """What is left is what was committed, read back from bytes."""
        self.progress = decode_value(Progress, encode_value(self.progress))
        self.deals = {dealer: decode(Deal.spec, encode(deal)) for dealer, deal in self.deals.items()}
        if self.mine is not None:
            self.mine = decode_value(Mine, encode_value(self.mine))
        self.outbox = [read_message(m.spec.name, encode(m)) for m in self.outbox]

    def lose_store(self) -> None:
        """A new store, on the same identity and keys of sessions."""
        assert self.mine is not None
        self.progress, self.position, self.deals = Progress(session=self.terms.session), 0, {}
        self.mine, self.outbox = Mine(place=self.mine.place), []

    def share(self):
        return None if self.mine is None else held_share(self.mine, self.terms.session, self.wallet)


class Network:
    """`followers` are nodes that are no members. `patient`: a block comes only when everybody has read and said all there is."""

    def __init__(
        self,
        size: int = 4,
        *,
        seed: int = 0,
        lies: dict[int, Sequence[Lie]] | None = None,
        followers: int = 1,
        min_confirmations: int | None = None,
        patient: bool = True,
        restarts: float = 0.0,
        terms: Terms | None = None,
    ) -> None:
        self.random = Random(seed)
        self.terms = terms or terms_for(size, validators=size + followers, min_confirmations=min_confirmations)
        size = self.terms.size
        lies = lies or {}
        self.nodes = [Node(self.terms, n, n if n < size else None, lies.get(n, ())) for n in range(size + followers)]
        self.log: list[Message] = []
        # Who published each message of the log, whatever it says.
        self.authors: list[int] = []
        self.height = self.nodes[0].head
        self.patient = patient
        self.restarts = restarts

    @property
    def honest(self) -> list[Node]:
        return [node for node in self.nodes if node.honest]

    @property
    def live(self) -> list[Node]:
        return [node for node in self.nodes if not node.away]

    def run(self, blocks: int = 5) -> "Network":
        """Until so many blocks came and all is read."""
        last = self.height + blocks
        for node in self.live:
            node.speak()
        while True:
            steps = [*self._steps()]
            if not steps:
                if self.height == last:
                    return self
                self.height += 1
                continue
            if not self.patient and self.height < last and self.random.random() < 0.02:
                self.height += 1
            self.random.choice(steps)()

    def until(self, reached: Callable[[], bool]) -> "Network":
        """One thing after the other, without a block."""
        for node in self.live:
            node.speak()
        while not reached():
            self.random.choice([*self._steps()])()
        return self

    def settle(self) -> "Network":
        """Until all is read, without a block."""
        return self.run(0)

    def stall(self, validators: Sequence[int] | None = None) -> "Network":
        """No block came for a while: validators say so, and all is read."""
        for node in self.live if validators is None else [self.nodes[n] for n in validators]:
            node.outbox.append(stalled(self.terms, node.progress, validator=node.number, wallet=node.wallet))
        return self.settle()

    def _steps(self) -> Iterator[Callable[[], None]]:
        for node in self.live:
            if node.position < len(self.log):
                yield lambda node=node: self._read(node)
            if node.outbox:
                yield lambda node=node: self._publish(node)
            if node.head < self.height:
                yield node.see_block

    def _read(self, node: Node) -> None:
        node.read(self.log[node.position])
        self._maybe_restart(node)

    def _publish(self, node: Node) -> None:
        message = node.outbox[0]
        self.log.append(message)
        self.authors.append(node.number)
        # Killed between publishing and noting it: the same bytes go out once more.
        if not (self.restarts and self.random.random() < self.restarts):
            node.outbox.pop(0)
        self._maybe_restart(node)

    def _maybe_restart(self, node: Node) -> None:
        if self.restarts and self.random.random() < self.restarts:
            node.restart()

    # -------------------------------------------------------------------------------------------- what came of it

    @property
    def progress(self) -> Progress:
        """What the honest nodes that read everything agree on."""
        readers = [node for node in self.honest if not node.away]
        views = {encode_value(node.progress) for node in readers if node.position == len(self.log)}
        assert len(views) == 1, "honest nodes read the same log and differ"
        return next(node.progress for node in readers if node.position == len(self.log))

    @property
    def transaction(self) -> GroupTransaction | None:
        body = self.progress.transaction
        return None if body is None else decode(GroupTransaction.spec, body)

    def said(self, kind: type[M], author: int) -> list[M]:
        return [m for m, by in zip(self.log, self.authors, strict=True) if isinstance(m, kind) and by == author]

    def close(self, phase: Phase) -> None:
        """Blocks until the phase is over."""
        while self.progress.phase is phase:
            self.run(1)
