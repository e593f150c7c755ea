"""What must follow from disputes: which blocks are reverted early, which are convicted, and how each process stands in the end.

Written from docs/disputes.md: a verdict against a candidate convicts every block that included it, on whatever fork, once; one
for it convicts nothing and lifts what was reverted early.
"""

from messages.chain_api import BlockImported
from messages.dispute_conclusion import (
    BlacklistRequested,
    Challenged,
    ChallengeLifted,
    Conclusion,
    ConclusionConcluded,
    Conclusions,
    ConclusionState,
    DescendantsSeen,
    Detection,
    GetConclusion,
    ListConclusions,
    Resolution,
    RevertAsked,
)
from messages.message import Message
from messages.signals import SessionChange
from messages.votes_db import DisputeStatus
from overseer.simulation.checks_chain_rest import ChainAtRest
from overseer.simulation.checks_course import CourseChecker, Input, ask, differ, must, shown
from overseer.simulation.checks_votes_rest import VotesAtRest
from overseer.simulation.scenario import AtRest, Violation, Watcher

__all__ = ["CascadeChecker", "ConclusionModel"]

NAME = "conclusion"
Key = tuple[int, bytes]


class Process:
    """What was heard of one dispute."""

    def __init__(self) -> None:
        self.contradicting: int | None = None
        self.challenged = False
        self.lifted = False
        self.verdict: bool | None = None
        # Blocks asked to be reverted, and to be blacklisted.
        self.reverted: set[bytes] = set()
        self.roots: set[bytes] = set()
        self.concluded: set[bool] = set()
        # Including blocks that the chain said it does not know: it lost them, and tells again when it has them again.
        self.unknown: set[bytes] = set()

    @property
    def acts_early(self) -> bool:
        return self.challenged and not self.lifted and self.verdict is None


class ConclusionModel:
    """One node's processes by definition."""

    def __init__(self, inclusion_sessions: int) -> None:
        self.inclusion_sessions = inclusion_sessions
        self.newest = 0
        self.processes: dict[Key, Process] = {}
        # candidate -> blocks that included it; block -> its session
        self.including: dict[bytes, set[bytes]] = {}
        # Told when they were forgotten already, by a chain that lost its store: they may be remembered once more.
        self.late: set[bytes] = set()
        self.sessions: dict[bytes, int] = {}

    def process(self, session: int, candidate: bytes) -> Process:
        return self.processes.setdefault((session, candidate), Process())

    def take(self, given: Input) -> None:
        message = given.message
        match message:
            case Detection():
                process = self.process(message.session, message.candidate)
                process.contradicting = message.contradicting if process.contradicting is None else process.contradicting
            case Challenged():
                self.process(message.session, message.candidate).challenged = True
            case ChallengeLifted():
                process = self.process(message.session, message.candidate)
                process.lifted = process.lifted or (process.challenged and process.verdict is not False)
            case Resolution():
                process = self.process(message.session, message.candidate)
                if process.verdict is not False:
                    process.verdict = message.valid
                    process.lifted = process.lifted or (message.valid and process.challenged)
            case SessionChange():
                self.newest = max(self.newest, message.index)
            case BlockImported():
                self.sessions[message.hash] = message.session
                if message.session <= self.newest - self.inclusion_sessions:
                    self.late.add(message.hash)
                for candidate in message.included:
                    self.including.setdefault(candidate, set()).add(message.hash)
                for process in self.processes.values():
                    process.unknown.discard(message.hash)
            case _:
                pass
        for event in given.events:
            self._followed(event)
        for (_, candidate), process in self.processes.items():
            if process.acts_early:
                missed = self.including.get(candidate, set()) - process.reverted
                must(NAME, not missed, f"challenged, but nobody stops building on {shown(sorted(missed))}")

    def _followed(self, event: Message) -> None:
        """Nothing is done without its reason, and nothing twice."""
        match event:
            case RevertAsked():
                process = self.process(event.session, event.candidate)
                must(NAME, process.acts_early, "blocks are reverted early for a dispute that is not challenged, or is decided")
                self._once(process.reverted, event.blocks, event.candidate, "reverted")
            case BlacklistRequested():
                process = self.process(event.session, event.candidate)
                must(NAME, process.verdict is False, "blacklist is asked for a candidate that was not found invalid")
                self._once(process.roots, event.roots, event.candidate, "blacklisted")
            case DescendantsSeen() if not event.known:
                self.process(event.session, event.candidate).unknown.add(event.block)
            case ConclusionConcluded():
                process = self.process(event.session, event.candidate)
                must(NAME, event.valid not in process.concluded, "a conclusion is told twice")
                must(NAME, process.verdict is event.valid, "a conclusion is told that is not the verdict")
                process.concluded.add(event.valid)
            case _:
                pass

    def _once(self, done: set[bytes], blocks: list[bytes], candidate: bytes, what: str) -> None:
        must(NAME, len(set(blocks)) == len(blocks) and not done & set(blocks), f"{what} twice: {shown(blocks)}")
        must(NAME, set(blocks) <= self.including.get(candidate, set()), f"{what} blocks that did not include the candidate")
        done |= set(blocks)

    def at_rest(self, rest: AtRest, node: str) -> None:
        for (session, candidate), process in sorted(self.processes.items()):
            where = f"{node}: the process over {candidate.hex()[:8]} in session {session}"
            answer = ask(NAME, rest, node, GetConclusion(session=session, candidate=candidate), Conclusion)
            including = self.including.get(candidate, set()) - process.unknown
            must(
                NAME,
                answer.state is _state(process, bool(including)),
                f"{where} is {answer.state.value}, not {_state(process, bool(including))}",
            )
            must(NAME, answer.contradicting == process.contradicting, f"{where} names another contradicting voter")
            remembered = {block for block in including | process.unknown if self.sessions[block] > self.newest - self.inclusion_sessions}
            due = remembered | process.reverted | process.roots
            due |= self.late & including & set(answer.including_blocks)
            differ(NAME, f"{where}, including blocks", list(due), answer.including_blocks)
            early = [] if process.lifted else list(process.reverted)
            differ(NAME, f"{where}, reverted", early, answer.reverted)
            if process.verdict is False:
                differ(NAME, f"{where}, roots", list(including), list(process.roots))
                must(NAME, not including or False in process.concluded, f"{where} was never concluded")
        listed = ask(NAME, rest, node, ListConclusions(open_only=False), Conclusions)
        differ(NAME, f"{node}: processes", list(self.processes), [(c.session, c.candidate) for c in listed.conclusions])


def _state(process: Process, included: bool) -> ConclusionState:
    if process.verdict is None:
        return ConclusionState.CHALLENGED if process.acts_early else ConclusionState.DETECTED
    if process.verdict:
        return ConclusionState.VALID
    return ConclusionState.BLACKLISTED if included else ConclusionState.AWAITING_INCLUSION


class CascadeChecker(Watcher):
    """Across the subsystems of a node, at rest: from the votes to the blacklist nothing is missing and nothing without a reason."""

    name = "cascade"

    def __init__(
        self,
        votes: CourseChecker[VotesAtRest],
        conclusions: CourseChecker[ConclusionModel],
        chain: CourseChecker[ChainAtRest],
    ) -> None:
        self._votes = votes
        self._conclusions = conclusions
        self._chain = chain
        # Nodes a subsystem of which forgot a part of its course: others may know more of it than it does.
        self._forgetful: set[str] = set()

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        self._forgetful.add(node)

    def at_rest(self, rest: AtRest) -> None:
        self.expect(not rest.outstanding, f"still outstanding when all faults had ceased: {'; '.join(rest.outstanding)}")
        for node in rest.network.nodes:
            chain, conclusions = self._chain.models.get(node), self._conclusions.models.get(node)
            votes = self._votes.models.get(node)
            if chain is None or conclusions is None or votes is None:
                continue
            self._verdicts(node, votes, conclusions)
            self._convictions(node, chain, conclusions)

    def _verdicts(self, node: str, votes: VotesAtRest, conclusions: ConclusionModel) -> None:
        verdicts = {DisputeStatus.CONCLUDED_FOR: True, DisputeStatus.CONCLUDED_AGAINST: False}
        for key, tally in sorted(votes.tallies.items()):
            process = conclusions.processes.get(key)
            status = tally.state()
            if status is DisputeStatus.NONE:
                self.expect(process is None or node in self._forgetful, f"{node}: a process follows a dispute that is none")
                continue
            if process is None:
                raise Violation(self.name, f"{node}: nothing follows the dispute over {key[1].hex()[:8]} in session {key[0]}")
            due, where = verdicts.get(status), f"{node}: the dispute over {key[1].hex()[:8]} in session {key[0]} is {status.value}"
            self.expect(process.verdict is due or node in self._forgetful, f"{where}, its process says {process.verdict}")
            self.expect(process.challenged == tally.challenged or node in self._forgetful, f"{where}: challenged is {process.challenged}")

    def _convictions(self, node: str, chain: ChainAtRest, conclusions: ConclusionModel) -> None:
        """The convicted are exactly the blocks that included a candidate found invalid, but for those pardoned since."""
        invalid = {key for key, process in conclusions.processes.items() if process.verdict is False}
        due = {(b, key) for key in invalid for b, block in chain.blocks.items() if key[1] in block.included and b not in chain.pardoned}
        found = {(root, cause) for root, causes in chain.convicted.items() for cause in causes if root not in chain.pardoned}
        differ(self.name, f"{node}: convictions", list(due), list(found))
        early = {key for key, process in conclusions.processes.items() if process.acts_early}
        stopped = {(b, key) for key in early for b, block in chain.blocks.items() if key[1] in block.included}
        differ(self.name, f"{node}: early reverts", list(stopped), list(chain.reverted))
