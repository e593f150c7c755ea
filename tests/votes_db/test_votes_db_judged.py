"""The simulation's model of votes beside the subsystem itself: what chance seldom brings about, made here."""

import pytest
from votes_world import INVALID, VALID, bundle, signers, vote, votes_db

from messages.message import Message
from messages.signals import SessionChange
from messages.votes_db import Dispute
from messages.votes_db_journal import GossipReleased, ImportHeld
from overseer.runner.schema import Cause, Record, Result
from overseer.simulation.checks_course import Input
from overseer.simulation.checks_votes import VotesModel
from overseer.simulation.scenario import Violation
from overseer.testing.given import Then
from subsystems.votes_db.declaration import VotesDbConfig

WINDOW = 3


class Judged:
    """A votes database, and the model that is shown all it does."""

    def __init__(self) -> None:
        self.db = votes_db(0, sessions=(), config=VotesDbConfig(window=WINDOW))
        self.model = VotesModel(WINDOW, 2, 8)

    def when(self, message: Message) -> None:
        self.show(message, self.db.when(message, sender="chain_api"), "accepted")

    def fire(self) -> Then | None:
        due = min(self.db.timers.values(), key=lambda timer: (timer.at_ms, timer.key), default=None)
        then = self.db.fire_one()
        if due is not None and then is not None:
            self.show(due.message, then, "timer")
        return then

    def show(self, message: Message, then: Then, status: str) -> None:
        assert then.rejection is None, then.rejection
        cause = Cause(stream="", sequence=0, sender="", id="", identity=b"", correlation="", trace="")
        record = Record(0, b"", self.db.now_ms, cause, message.spec.key, Result(status), [], [])
        self.model.take(Input(record, message, then.events))


def dispute_of(session: int) -> Dispute:
    here = votes_db(10, sessions=(session,))
    (told,) = here.when(bundle([vote(0, VALID, session=session), vote(1, INVALID, session=session)], session=session)).sent_of(Dispute)
    return told


def session(index: int) -> SessionChange:
    return SessionChange(index=index, validators=[s.validator for s in signers(10)])


def test_D18_a_held_dispute_whose_session_came_and_went_before_its_turn_is_let_go_once_and_nothing_of_it_is_imported() -> None:
    # Seed 5325 of `disputes`: several sessions begin in one batch, timers come after it.
    judged = Judged()
    judged.when(session(1))
    judged.when(dispute_of(2))
    judged.when(dispute_of(4))
    for index in (2, 3, 4, 5):
        judged.when(session(index))
    released: list[GossipReleased] = []
    while (then := judged.fire()) is not None:
        released += [event for event in then.events if isinstance(event, GossipReleased)]
    assert [(event.session, event.refused) for event in released] == [(2, "session_out_of_window"), (4, None)]
    again = Then(events=[released[0]])
    with pytest.raises(Violation, match="without a reason"):
        judged.show(ImportHeld(), again, "timer")
