"""What may never be taken, and what one id may mean: the judge of the byzantine variants, beside the models."""

from collections.abc import Sequence

from blake3 import blake3

from messages.chain_api import OrphanDropped
from messages.chain_events import ChainStarted, OrphanHeld
from messages.codec import encode
from messages.message import Message
from messages.votes_db_journal import GossipHeld
from overseer.runner.schema import Record
from overseer.simulation.byzantine import EVIL_NODE, MALLORY
from overseer.simulation.checks_course import Archive
from overseer.simulation.scenario import Answer, Watcher

__all__ = ["MischiefChecker"]

_REFUSED = ("parked", "rejected")
# What may wait until it can be judged: a dispute of a session to come, a block without its parent.
_HOLDING = ("votes_db.net.dispute", "chain_api.cmd.import_block")
# That it waits, and what made room for it in a full pool.
_HELD = (GossipHeld, OrphanHeld, OrphanDropped, ChainStarted)


class MischiefChecker(Watcher):
    """Nothing of Mallory's has an effect; no command id stands for two bodies, and none is handled twice."""

    name = "mischief"

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        # (node, subsystem) -> command id -> record that handled it
        self._handled: dict[tuple[str, str], dict[str, int]] = {}
        # (node, receiver, command id) -> hash of the body that an outcome was told of
        self._told: dict[tuple[str, str, str], bytes] = {}
        self._set_back: set[tuple[str, str]] = set()

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        cause, status = record.cause, record.result.status
        if not cause.stream:
            return
        stored = self._archive.original(cause.identity)
        evil = stored is not None and stored.subject.startswith(f"overseer.net.{EVIL_NODE}.")
        if evil or cause.sender == MALLORY or (cause.sender.startswith("req_") and cause.id.startswith("mallory-")):
            # What may be true tomorrow is held; the models see to it that it is not taken then.
            held = record.input in _HOLDING and all(isinstance(event, _HELD) for event in events)
            self.expect(status in _REFUSED or held, f"{node} {subsystem} took {record.input} of {cause.sender}: {status}")
        if status == "parked":
            self.expect(record.result.code != "handler_failed", f"{node} {subsystem} failed over {record.input}: {events}")
        elif cause.sender.startswith(("op_", "req_")) and cause.id:
            handled = self._handled.setdefault((node, subsystem), {})
            before = handled.setdefault(cause.id, record.index)
            self.expect(before == record.index, f"{node} {subsystem} handled the command {cause.id} twice, in {before} and {record.index}")

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        key = (node, subsystem)
        self._set_back.add(key)
        # Its journal may not know them any more: from here on anew.
        self._handled.pop(key, None)

    def answered(self, answer: Answer) -> None:
        message = answer.submission.message
        if message is None or answer.code in ("", "id_reused") or not answer.command_id:
            return
        key = (answer.submission.node, message.spec.owner, answer.command_id)
        if key[:2] in self._set_back:
            return
        body = blake3(message.spec.key.encode() + encode(message)).digest()
        self.expect(self._told.setdefault(key, body) == body, f"{key[0]}: the command id {key[2]} has an outcome for two bodies")
