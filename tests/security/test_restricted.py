"""Who a message is from: the receiver's own check, behind that of the bus."""

import pytest

from messages.message import Kind, Message
from messages.subjects import HEADER_ID
from overseer.ports.bus import Delivery, StoredMessage
from overseer.runner.intake import Reader
from overseer.subsystem import Declaration
from tests.security.rules import rights
from tests.security.shared_bus import DECLARATIONS, NODE, OPERATORS, READERS, SITES

NAMES = [d.name for d in DECLARATIONS]
SENDERS = [*NAMES, "overseer", "provisioner", "op_operator", "op_feed", "op_reader", *(f"req_{name}" for name in NAMES), "anybody"]
RESTRICTED = [(d, command, allowed) for d in DECLARATIONS for command, allowed in d.restricted.items()]


def read(declaration: Declaration, command: type[Message], sender: str, named: str) -> str:
    """Why a message is refused, "" when it is taken (its body is not looked at)."""
    spec = command.spec
    subject = f"overseer.{NODE}.{sender}.cmd.{spec.owner}.{spec.name}"
    stored = StoredMessage(1, 1, subject, {HEADER_ID: f"{named} {'00' * 16} 1 0"}, b"\xa0")
    intake = Reader(NODE, declaration).read(Delivery(1, stored, ""))
    assert intake.refusal is not None or intake.message is not None
    return intake.refusal.reason if intake.refusal is not None else ""


def test_the_cascade_is_restricted() -> None:
    """Only `dispute_conclusion` may convict."""
    found = {command.spec.key: allowed for _, command, allowed in RESTRICTED}
    assert found["chain_api.cmd.blacklist"] == ("dispute_conclusion",)
    assert found["chain_api.cmd.revert"] == found["chain_api.cmd.lift_revert"] == ("dispute_conclusion",)
    assert found["dispute_conclusion.cmd.detection"] == found["dispute_conclusion.cmd.resolution"] == ("votes_db",)


@pytest.mark.parametrize(("declaration", "command", "allowed"), RESTRICTED, ids=[command.spec.key for _, command, _ in RESTRICTED])
def test_a_restricted_command_is_taken_from_those_it_names_alone(
    declaration: Declaration, command: type[Message], allowed: tuple[str, ...]
) -> None:
    users = rights(NODE, DECLARATIONS, OPERATORS, READERS, [NODE], SITES)
    for sender in SENDERS:
        refused = read(declaration, command, sender, sender) == "forbidden_sender"
        assert refused is (sender not in allowed), sender
        # And on the bus nobody but those may say it, under any token.
        subject = f"overseer.{NODE}.{sender}.cmd.{command.spec.owner}.{command.spec.name}"
        may = {name for name, user in users.items() if user.may_publish(subject)}
        declared = {d.name for d in DECLARATIONS if command in d.sends}
        assert may == ({sender} if sender in allowed and sender in declared else set()), subject


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=NAMES)
def test_a_header_that_names_another_sender_is_a_dead_letter(declaration: Declaration) -> None:
    for command in (m for m in declaration.consumes if m.spec.kind is Kind.COMMAND):
        for sender in NAMES:
            for named in SENDERS:
                if named != sender:
                    assert read(declaration, command, sender, named) == "wrong_sender"
