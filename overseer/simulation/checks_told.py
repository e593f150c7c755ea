"""What the subsystems tell each other, counted: every consequence that the journal holds is told once, and nothing else is.

Messages of a course that a fault has undone (a store set back) are told from; so is their repetition under the new incarnation.
"""

from collections.abc import Iterator, Sequence

from messages.chain_api import SubmitTransaction
from messages.dispute_conclusion import Challenged, ChallengeLifted, Detection, Resolution
from messages.message import Kind, Message
from messages.overseer import IncarnationStarted
from messages.subjects import HEADER_ID, MessageId, SubjectError, parse
from messages.votes_db import Dispute, DisputeStatusChanged, DoubleVoteSeen, SessionsPruned
from overseer.ports.bus import StoredMessage
from overseer.simulation.checks_chain_rest import ChainAtRest, Heard
from overseer.simulation.checks_course import Archive, CourseChecker, Input, differ
from overseer.simulation.checks_votes_events import Outcome, observed
from overseer.simulation.checks_votes_rest import VotesAtRest
from overseer.simulation.scenario import AtRest, Watcher

__all__ = ["ToldChecker"]

NET = "net"
# Outcomes of the votes database that somebody is told of.
_TOLD = frozenset({"detected", "gossip", "challenged", "lifted", "resolved", "reward", "slash", "double", "status", "pruned"})


class ToldChecker(Watcher):
    """Holds the streams at rest against the journals."""

    name = "told"

    def __init__(self, archive: Archive, votes: CourseChecker[VotesAtRest], chain: CourseChecker[ChainAtRest], genesis: bytes) -> None:
        self._archive = archive
        self._votes = votes
        self._chain = chain
        self._genesis = genesis
        # All that each stream ever took: what was trimmed or lost has been told nevertheless.
        self._streams: dict[str, list[StoredMessage]] = {}

    def stored(self, node: str, message: StoredMessage) -> None:
        self._streams.setdefault(node, []).append(message)

    def at_rest(self, rest: AtRest) -> None:
        for node in rest.network.nodes:
            own = self._streams.get(node, [])
            self._votes_told(node, [*own, *self._streams.get(NET, [])])
            self._chain_told(node, own)

    def _votes_told(self, node: str, streams: Sequence[StoredMessage]) -> None:
        inputs = self._votes.inputs(node)
        due = [outcome for given in inputs for event in given.events for outcome in _due(observed(event))]
        found = [outcome for message in self._real(node, "votes_db", inputs, streams) for outcome in _told(message)]
        differ(self.name, f"{node}: told by votes_db", due, found)

    def _chain_told(self, node: str, stream: Sequence[StoredMessage]) -> None:
        model = self._chain.models.get(node)
        if model is None:
            return
        heard = Heard(self._genesis)
        heard.hear_all(self._real(node, "chain_api", self._chain.inputs(node), stream))
        heard.agree(model, node)

    def _real(self, node: str, sender: str, inputs: Sequence[Input], stream: Sequence[StoredMessage]) -> list[Message]:
        """What the sender told of the records that its journal still holds, in their order."""
        incarnations = _incarnations(inputs)
        found: dict[tuple[int, int], Message] = {}
        for stored in stream:
            message_id = _id_of(stored, node, sender)
            if message_id is None or incarnations.get(message_id.sequence) != message_id.incarnation:
                continue
            message = self._archive.as_stored(stored)
            if message is not None:
                # The same once more after a stream lost it.
                found[message_id.sequence, message_id.index] = message
        return [found[place] for place in sorted(found)]


def _incarnations(inputs: Sequence[Input]) -> dict[int, str]:
    """Journal record -> the incarnation under which it was told."""
    found: dict[int, str] = {}
    current = ""
    for given in inputs:
        for event in given.events:
            if isinstance(event, IncarnationStarted):
                current = event.incarnation.hex()
        found[given.record.index] = current
    return found


def _id_of(stored: StoredMessage, node: str, sender: str) -> MessageId | None:
    """The id of a message of that node's subsystem."""
    try:
        address = parse(stored.subject)
        mine = address.sender == sender and address.node == node and address.kind is not Kind.PARKED
        return MessageId.parse(stored.headers.get(HEADER_ID, "")) if mine else None
    except SubjectError:
        return None


def _due(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    for outcome in outcomes:
        if outcome[0] == "detected":
            yield outcome[:4]
            if outcome[4]:
                yield ("gossip", *outcome[1:3])
        elif outcome[0] in _TOLD:
            yield outcome


def _told(message: Message) -> Iterator[Outcome]:
    """The outcomes that a message tells of, as `checks_votes_events` writes them."""
    match message:
        case Detection():
            yield ("detected", message.session, message.candidate, message.contradicting)
        case Dispute():
            yield ("gossip", message.session_index, message.candidate_hash)
        case Challenged():
            yield ("challenged", message.session, message.candidate)
        case ChallengeLifted():
            yield ("lifted", message.session, message.candidate)
        case Resolution():
            voters = tuple((v.validator, v.valid is not None, v.invalid is not None) for v in message.voters)
            yield ("resolved", message.session, message.candidate, message.valid, voters)
        case SubmitTransaction():
            for t in message.transactions:
                yield (t.kind.value, t.session, t.candidate, t.validator, t.verdict, t.vote, t.signature)
        case DoubleVoteSeen() | DisputeStatusChanged() | SessionsPruned():
            yield from observed(message)
        case _:
            pass
