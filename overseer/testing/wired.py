"""Several subsystems of one node, wired by their declarations: one log, one order, no bus, store or process.

node = Wired([ChainApi(...), VotesDb(), DisputeConclusion()])
then = node.send(ImportBlock(...))          # handled, and all that follows from it
assert node.ask(Best()).hash == ...
Wired([...], seed=7).play(story)            # the subsystems take turns as the seed says

Every command, fact and signal that a subsystem sends is appended to the log, in the order of sending. Each subsystem reads the
log at its own pace, as on the wire: by default in lockstep, under a seed one of them may lag far behind another.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from messages.message import Kind, Message, Rejection
from messages.votes_db import VotesRegistered
from overseer.feeds.story import ACCEPTED, Await, Scene, Send, Story
from overseer.subsystem import Subsystem, Verify
from overseer.testing.given import Given, Then
from overseer.verification import verify_check

__all__ = ["Logged", "Wired"]

# How often a command is sent again for a retriable refusal, and how far time is moved on to let timers fire, before giving up.
_ATTEMPTS_MAX = 1_000
_TIMERS_AWAITED_MS = 60_000


class Logged(NamedTuple):
    """A message in the log; its place is its position minus one."""

    sender: str
    message: Message
    time_ms: int


class Wired:
    """One node's subsystems. `seed` lets them take turns at random (the same every time); None is lockstep."""

    def __init__(self, subsystems: Sequence[Subsystem], *, seed: int | None = None, verify: Verify = verify_check) -> None:
        self.given = {s.declaration.name: Given(s, verify=verify) for s in subsystems}
        self.log: list[Logged] = []
        # What was sent to other nodes.
        self.network: list[Logged] = []
        self.now_ms = 1_000_000
        self._at = dict.fromkeys(self.given, 0)
        self._outcomes: dict[int, Then] = {}
        self._turns = None if seed is None else random.Random(seed)

    # -------------------------------------------------------------------------------------------- in and out

    def append(self, message: Message, *, sender: str = "op_test") -> int:
        """Put a message at the end of the log, unread; returns its index there."""
        self.now_ms += 1
        self.log.append(Logged(sender, message, self.now_ms))
        return len(self.log) - 1

    def send(self, message: Message, *, sender: str = "op_test", settle: bool = True) -> Then:
        """Send a command and see what its receiver made of it; `settle` also lets all follow that follows."""
        index = self.append(message, sender=sender)
        while index not in self._outcomes:
            assert self.step(), f"{message.spec.key} has no receiver here"
        if settle:
            self.settle()
        return self._outcomes[index]

    def ask(self, query: Message) -> Message | Rejection:
        """The answer of the query's owner, as of what it has read."""
        return self.given[query.spec.owner].ask(query)

    def sent(self, *kinds: type[Message]) -> list[Message]:
        """The messages of these types in the log, in order."""
        return [entry.message for entry in self.log if isinstance(entry.message, kinds)]

    # -------------------------------------------------------------------------------------------- running

    def step(self) -> bool:
        """Let one subsystem read its next message, or fire one of its due timers; False when there is nothing to do."""
        ready = [name for name in self.given if self._ready(name)]
        if not ready:
            return False
        name = min(ready, key=lambda n: self._at[n]) if self._turns is None else self._turns.choice(ready)
        given = self.given[name]
        if self._at[name] < len(self.log):
            self._read(name, given)
        else:
            given.now_ms = max(given.now_ms, self.now_ms)
            self._spread(name, given.fire_one())
        return True

    def settle(self, *, steps_max: int = 1_000_000) -> None:
        """Run until nothing is left to do at the present time."""
        for _ in range(steps_max):
            if not self.step():
                return
        raise AssertionError(f"not idle after {steps_max} steps")

    def advance(self, ms: int) -> None:
        """Time passes; timers that become due fire."""
        self.now_ms += ms
        self.settle()

    def _ready(self, name: str) -> bool:
        """A subsystem's timers fire after everything there is to read."""
        if self._at[name] < len(self.log):
            return True
        return any(timer.at_ms <= self.now_ms for timer in self.given[name].timers.values())

    def _read(self, name: str, given: Given) -> None:
        index = self._at[name]
        self._at[name] += 1
        entry = self.log[index]
        spec = entry.message.spec
        if type(entry.message) not in given.subsystem.declaration.consumes or (spec.kind is Kind.COMMAND and spec.owner != name):
            return
        allowed = given.subsystem.declaration.restricted.get(type(entry.message))
        assert allowed is None or entry.sender in allowed, f"{entry.sender} may not send {spec.key}"
        given.position = index
        then = given.when(entry.message, sender=entry.sender, now_ms=entry.time_ms)
        if spec.kind is Kind.COMMAND:
            self._outcomes[index] = then
            assert then.rejection is None or entry.sender not in self.given, (
                f"{name} refused {entry.message} of {entry.sender}: {then.rejection}"
            )
        self._spread(name, then)

    def _spread(self, sender: str, then: Then | None) -> None:
        for message in then.sent if then else ():
            entry = Logged(sender, message, self.now_ms)
            (self.network if message.spec.kind is Kind.NETWORK else self.log).append(entry)

    # -------------------------------------------------------------------------------------------- stories

    def play(self, story: Story) -> None:
        """Play all steps; AssertionError names the step whose outcome is another, or the barrier that is never reached.

        Between barriers nothing is waited for but each command's own outcome, as in a real node.
        """
        for number, step in enumerate(story.steps):
            match step:
                case Scene():
                    pass
                case Send():
                    self._play_send(number, step)
                case Await():
                    self._play_await(number, step)
        self.settle()

    def unanswered(self, story: Story) -> list[str]:
        """Which of the story's final questions have another answer, with what was answered."""
        answers = ((question, self.ask(question.query)) for question in story.questions)
        return [f"{question.what}: {answer}" for question, answer in answers if not question.holds(answer)]

    def _play_send(self, number: int, step: Send) -> None:
        for _ in range(_ATTEMPTS_MAX):
            then = self.send(step.message, settle=False)
            code = ACCEPTED if then.rejection is None else then.rejection.code
            if code == step.outcome:
                break
            assert then.rejection is not None, f"step {number}: {step.message.spec.key} was accepted, expected {step.outcome}"
            assert then.rejection.retriable, f"step {number}: {step.message.spec.key} was refused: {then.rejection}"
            self.step()
        else:
            raise AssertionError(f"step {number}: {step.message.spec.key} is still refused: {then.rejection}")  # pyright: ignore
        if step.votes is not None:
            assert isinstance(then.reply, VotesRegistered), f"step {number}: {then.reply}"
            found = tuple(outcome.outcome for outcome in then.reply.outcomes)
            assert found == step.votes, f"step {number}: outcomes {found}, expected {step.votes}"
            assert then.reply.status is step.status, f"step {number}: the dispute is {then.reply.status}, expected {step.status}"

    def _play_await(self, number: int, step: Await) -> None:
        until = self.now_ms + _TIMERS_AWAITED_MS
        while not step.holds(self.ask(step.query)):
            if self.step():
                continue
            due = min((t.at_ms for g in self.given.values() for t in g.timers.values()), default=until)
            assert due < until, f"step {number}: never reached: {step.what}; the answer is {self.ask(step.query)}"
            self.now_ms = max(self.now_ms, due)
