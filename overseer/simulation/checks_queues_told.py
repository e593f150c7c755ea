"""Queues seen from further away: from the chain that they follow, and by those who asked."""

from collections import Counter

from messages.gateway_queries import (
    ActiveRequests,
    AssignedRequestPage,
    AssignedRequests,
    GatewayPage,
    ListGateways,
    PendingRequests,
    RequestPage,
)
from messages.gateways import Bond, SubmitExecutionProof, SubmitRequest
from overseer.simulation.checks_chain_rest import ChainAtRest
from overseer.simulation.checks_course import CourseChecker, ask
from overseer.simulation.checks_queues import QueuesAtRest
from overseer.simulation.scenario import Answer, AtRest, Watcher

__all__ = ["AskedChecker", "StandingChecker"]


class StandingChecker(Watcher):
    """At rest nobody holds anything by a round whose cut or close block is not on the best chain, or is blacklisted.

    What the best chain is, is worked out from the blocks that the chain's own subsystem was given, not from what it told.
    """

    name = "standing"

    def __init__(self, queues: CourseChecker[QueuesAtRest], chain: CourseChecker[ChainAtRest]) -> None:
        self._queues = queues
        self._chain = chain

    def at_rest(self, rest: AtRest) -> None:
        for node, queues in sorted(self._queues.models.items()):
            chain = self._chain.models[node]
            line = set(chain.line(chain.best)) - set(chain.blacklisted)
            known = queues.known
            self.expect(known.height == len(line) - 1, f"{node}: the elections are at {known.height}, the best chain at {len(line) - 1}")
            self.expect(set(known.blocks.values()) <= line, f"{node}: the elections take blocks for the best chain's that are not on it")
            complete = len(known.blocks) == len(line) - 1
            self.expect(complete, f"{node}: the elections know {len(known.blocks)} blocks of {len(line) - 1}")
            for name, queue in sorted(queues.queues.items()):
                for ballot in queue.ballots.values():
                    stands = ballot.cut.hash in line and (ballot.close is None or ballot.close.hash in line)
                    serves = ballot.phase in ("voting", "closing", "closed")
                    self.expect(stands or not serves, f"{node} {name}: round {ballot.round} is {ballot.phase}, its blocks are gone")
                for row in ask(self.name, rest, node, AssignedRequests(election=name), AssignedRequestPage).requests:
                    ballot = queue.ballots[queue.requests[row.request].ballot]
                    assert ballot.close is not None
                    stands = ballot.cut.hash in line and ballot.close.hash in line
                    self.expect(stands, f"{node} {name}: {row.request.hex()[:8]} is assigned by a round whose blocks are gone")


class AskedChecker(Watcher):
    """What somebody was told is accepted is there, once. Of a node that lost something for good nothing is expected."""

    name = "asked"

    def __init__(self) -> None:
        # node -> command id -> what was accepted.
        self._accepted: dict[str, dict[str, object]] = {}
        self._spared: set[str] = set()

    def answered(self, answer: Answer) -> None:
        node, message = answer.submission.node, answer.submission.message
        if answer.code == "accepted" and isinstance(message, Bond | SubmitRequest | SubmitExecutionProof):
            self._accepted.setdefault(node, {})[answer.command_id] = message
        elif not answer.code:
            self._spared.add(node)

    def lost(self, node: str, last_sequence: int, *, replaced: bool) -> None:
        self._spared.add(node)

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        self._spared.add(node)

    def at_rest(self, rest: AtRest) -> None:
        for node, commands in sorted(self._accepted.items()):
            if node not in self._spared:
                self._bonds(rest, node, [each for each in commands.values() if isinstance(each, Bond)])
                submitted = [each for each in commands.values() if isinstance(each, SubmitRequest)]
                proven = [each for each in commands.values() if isinstance(each, SubmitExecutionProof)]
                self._requests(rest, node, submitted, proven)

    def _bonds(self, rest: AtRest, node: str, bonds: list[Bond]) -> None:
        for name in sorted({bond.election for bond in bonds}):
            due = Counter[bytes]()
            for bond in bonds:
                due[bond.gateway] += bond.amount if bond.election == name else 0
            for report in ask(self.name, rest, node, ListGateways(election=name), GatewayPage).gateways:
                found = report.bonded + report.unbonded
                self.expect(
                    found == due[report.gateway], f"{node} {name}: {report.gateway.hex()[:8]} has {found}, {due[report.gateway]} was bonded"
                )

    def _requests(self, rest: AtRest, node: str, submitted: list[SubmitRequest], proven: list[SubmitExecutionProof]) -> None:
        done = Counter((proof.election, proof.request) for proof in proven)
        twice = [request.hex()[:8] for (_, request), times in done.items() if times > 1]
        self.expect(not twice, f"{node}: {twice} were executed more than once")
        for name in sorted({command.election for command in submitted}):
            found = Counter[bytes]()
            for query in (PendingRequests(election=name), ActiveRequests(election=name)):
                found.update(row.request for row in ask(self.name, rest, node, query, RequestPage).requests)
            assigned = ask(self.name, rest, node, AssignedRequests(election=name), AssignedRequestPage).requests
            found.update(row.request for row in assigned)
            found.update(request for election, request in done if election == name)
            own = [command.request for command in submitted if command.election == name]
            self.expect(max(Counter(own).values()) == 1, f"{node} {name}: a request was accepted twice")
            self.expect(found.keys() <= set(own), f"{node} {name}: requests that nobody submitted")
            self.expect(all(times == 1 for times in found.values()), f"{node} {name}: a request is in two places")
