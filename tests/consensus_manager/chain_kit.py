"""A chain for tests of elections: hashes and sessions by number, groups elected by a real DKG."""

from collections.abc import Sequence

from dkg_kit import CHAIN, drawn, identity, verify_check
from dkg_lies import silent
from dkg_network import Lie, Network, Node

from messages.codec import encode
from messages.consensus_manager import Approval, Attempt, GroupTransaction
from subsystems.consensus_manager.deriving import derive
from subsystems.consensus_manager.handover import Acceptance, Serving, acceptance_of, serving
from subsystems.consensus_manager.judging import Ground, Verdict, judge_block
from subsystems.consensus_manager.member import stalled
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.selection import Candidate
from subsystems.consensus_manager.terms import Terms

__all__ = ["Story", "error"]


def error(verdict: Verdict) -> str:
    """The code of a refusal, with its detail where it has one; "accepted"."""
    if verdict.error is None:
        return "accepted"
    detail = getattr(verdict.error, "detail", None)
    return verdict.error.code if detail is None else f"{verdict.error.code} {detail}"


class Story:
    """`fork` names a chain of its own from its first block on. Sessions begin at the numbers in `sessions`, with so many validators."""

    genesis = CHAIN

    def __init__(self, parameters: Parameters | None = None, *, validators: int = 6, fork: str = "") -> None:
        self.parameters = parameters or Parameters(min_confirmations=3)
        self.fork = fork
        self.forked_at = 0
        self.sessions: dict[int, list[int]] = {0: list(range(validators))}
        self.acceptances: list[Acceptance] = []

    def hash_at(self, number: int) -> bytes:
        return drawn("block", number, self.fork if number >= self.forked_at else "")

    def validators_at(self, number: int) -> list[Candidate]:
        begun = max(start for start in self.sessions if start <= number)
        return [Candidate(index=n, identity=identity(number)) for n, number in enumerate(self.sessions[begun])]

    def serving_before(self, number: int) -> Serving:
        return serving(self.acceptances, lambda block: any(block == self.hash_at(n) for n in range(number)))

    def begin(self, epoch_start: int) -> None:
        """A group was accepted in that block, somehow."""
        terms = self.terms(Attempt(0, self.parameters.interval, 0, 0), Serving())
        self.acceptances.append(
            Acceptance(
                block=self.hash_at(epoch_start),
                number=epoch_start,
                epoch=1,
                session=terms.session,
                attempt=terms.attempt,
                key=bytes(48),
                members=terms.members,
            )
        )

    def terms(self, attempt: Attempt, now: Serving, stalls: Sequence[Approval] = ()) -> Terms:
        found = derive(self, now, self.parameters, attempt, stalls=stalls)
        assert found is not None
        return found

    def attempt(self, delay: int = 0, round: int = 0, *, at: int = 10**6) -> Attempt:
        now = self.serving_before(at)
        return Attempt(now.epoch_start, now.epoch_start + self.parameters.interval, delay, round)

    def elect(self, delay: int = 0, *, lies: dict[int, list[Lie]] | None = None, blocks: int = 5, seed: int = 0) -> Network:
        """The DKG of an attempt at the election that is due; `lies` by place."""
        terms = self.terms(self.attempt(delay), self.serving_before(10**6))
        return ElectionNetwork(terms, lies=lies or {}, seed=seed).run(blocks)

    def judge(self, number: int, *transactions: GroupTransaction | bytes) -> list[Verdict]:
        """The verdicts of block `number`."""
        bodies = [t if isinstance(t, bytes) else encode(t) for t in transactions]
        now = self.serving_before(number)
        ground = Ground(
            number=number,
            epoch_start=now.epoch_start,
            parameters=self.parameters,
            derive=lambda attempt: derive(self, now, self.parameters, attempt),
        )
        return judge_block(bodies, ground, verify_check)

    def accept(self, number: int, transaction: GroupTransaction) -> Acceptance:
        (verdict,) = self.judge(number, transaction)
        before = self.serving_before(number)
        accepted = acceptance_of(verdict, block=self.hash_at(number), number=number, before=before)
        self.acceptances.append(accepted)
        return accepted


class ElectionNetwork(Network):
    """The members of derived terms, with the identities that they have there."""

    def __init__(self, terms: Terms, *, lies: dict[int, list[Lie]] | None = None, seed: int = 0, absent: Sequence[int] = ()) -> None:
        super().__init__(terms=terms, lies=lies, seed=seed, followers=0)
        numbers = {identity(n).signing: n for n in range(64)}
        self.nodes = [
            Node(terms, numbers[member.identity.signing], place, (lies or {}).get(place, ())) for place, member in enumerate(terms.members)
        ]
        for node in self.nodes:
            node.absent = absent

    def give_up(self) -> "Network":
        """All validators of the session say that no block comes, until the round is over; only the first member is there to follow."""
        for node in self.nodes[1:]:
            node.lies = [silent]
        while not self.progress.given_up:
            phase = self.progress
            for index, signing in enumerate(self.terms.validators):
                number = next(n for n in range(64) if identity(n).signing == signing)
                speaker = Node(self.terms, number, None)
                self.log.append(stalled(self.terms, phase, validator=index, wallet=speaker.wallet))
                self.authors.append(number)
            self.settle()
        return self
