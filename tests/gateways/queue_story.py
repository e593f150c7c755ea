"""What the tests of gateway elections speak in: a queue with L = 4 and M = 3, gateways and requests by name, and a chain that is told."""

from collections.abc import Sequence
from typing import Any, TypeVar

from blake3 import blake3
from nacl.signing import SigningKey

from messages.elections import OfElection, QueryHistory
from messages.execution import execution_payload
from messages.gateway_queries import (
    ActiveRequests,
    AssignedRequestPage,
    AssignedRequests,
    ExecutionPage,
    ExecutionResults,
    GatewayPage,
    GatewayReport,
    GetQueue,
    ListGateways,
    PendingRequests,
    QueueReport,
    RequestPage,
    Results,
    ResultsPage,
)
from messages.gateways import (
    Bond,
    DeclareGateway,
    OpenQueue,
    RedistributeStake,
    SubmitExecutionProof,
    SubmitRequest,
    Unbond,
)
from messages.message import Message
from messages.polkadot import Scheme, Validator
from messages.signals import BestChain, BlockRef, GovernanceMode, GovernanceState, SessionChange
from overseer.testing.given import Given, Then
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.gateways.config import GatewaysConfig
from subsystems.elections.subsystem import Elections

QUEUE = "ingestion"
SHORT = GatewaysConfig(collect_blocks=4, vote_blocks=3)

M = TypeVar("M", bound=Message)


def digest(name: object) -> bytes:
    return blake3(str(name).encode()).digest()


def key_of(gateway: str) -> SigningKey:
    return SigningKey(digest(gateway))


def account(gateway: str) -> bytes:
    return bytes(key_of(gateway).verify_key)


def names(hashes: Sequence[bytes], known: str) -> str:
    """Which of the requests of these one-letter names."""
    return "".join(name for each in hashes for name in known if digest(name) == each)


def submit(name: str, *, size: int = 100, balance: int = 10, queue: str = QUEUE) -> SubmitRequest:
    return SubmitRequest(
        election=queue, request=digest(name), content=digest(f"content {name}"), size=size, account=digest("owner"), balance=balance
    )


def proof(
    gateway: str,
    name: str,
    *,
    round: int = 0,
    size: int = 100,
    content: str | None = None,
    key: SigningKey | None = None,
    queue: str = QUEUE,
) -> SubmitExecutionProof:
    told = digest(f"content {name}" if content is None else content)
    payload = execution_payload(queue, round=round, request=digest(name), executor=account(gateway), content=told, size=size)
    return SubmitExecutionProof(
        election=queue,
        round=round,
        request=digest(name),
        executor=account(gateway),
        content=told,
        size=size,
        signature=(key or key_of(gateway)).sign(payload).signature,
    )


def vote(gateway: str, name: str, amount: int, *, round: int = 0, queue: str = QUEUE) -> RedistributeStake:
    return RedistributeStake(election=queue, round=round, gateway=account(gateway), item=digest(name), amount=amount)


class Story:
    """A queue that is opened at height 0. Blocks are called `number/branch`."""

    def __init__(self, config: GatewaysConfig = SHORT, *, opened: bool = True, **settings: Any) -> None:
        self.given = Given(Elections(ElectionsConfig(gateways=config, **settings)))
        self.chain: list[bytes] = [digest("genesis")]
        if opened:
            self.done(OpenQueue(election=QUEUE))

    @property
    def height(self) -> int:
        return len(self.chain) - 1

    # -------------------------------------------------------------------------------------------- what happens

    def when(self, message: Message) -> Then:
        sender = "chain_api" if isinstance(message, BestChain | SessionChange | GovernanceMode) else "op_test"
        self.given.now_ms += 1
        return self.given.when(message, sender=sender)

    def done(self, *commands: OfElection) -> Then:
        """All accepted; what followed from the last."""
        then = Then()
        for command in commands:
            then = self.when(command)
            assert then.rejection is None, (command, then.rejection)
        return then

    def refused(self, command: OfElection) -> Message:
        then = self.when(command)
        assert then.rejection is not None, f"{command} was taken"
        assert then.events == []
        return then.rejection

    def reach(self, height: int, branch: str = "a", *, keep: int | None = None, settle: bool = True) -> Then:
        """The best chain grows to `height` in one signal; with `keep`, it leaves what is above, first.

        Steps that go on by timers are through then, unless `settle` is false.
        """
        keep = self.height if keep is None else keep
        reverted = [BlockRef(self.chain[number], number) for number in range(self.height, keep, -1)]
        applied = [BlockRef(digest(f"{number}/{branch}"), number) for number in range(keep + 1, height + 1)]
        self.chain = self.chain[: keep + 1] + [ref.hash for ref in applied]
        then = self.when(BestChain(reverted=reverted, applied=applied))
        rest = self.given.settle() if settle else Then()
        return Then(events=[*then.events, *rest.events], sent=[*then.sent, *rest.sent])

    def drop(self, keep: int) -> Then:
        """What is above `keep` leaves the best chain, as when it is blacklisted, and nothing takes its place."""
        return self.reach(keep, keep=keep)

    def step_by_step(self, height: int, branch: str = "a") -> None:
        while self.height < height:
            self.reach(self.height + 1, branch)

    def session(self, *gateways: str) -> Then:
        return self.when(SessionChange(index=1, validators=[Validator(account(name)) for name in gateways]))

    def governance(self, state: GovernanceState) -> Then:
        return self.when(GovernanceMode(state=state, entry=1, frozen_at=0))

    def gateways(self, **stakes: int) -> None:
        """Bonded and declared, with Ed25519 keys."""
        for name, stake in stakes.items():
            self.done(Bond(election=QUEUE, gateway=account(name), amount=stake))
            self.done(DeclareGateway(election=QUEUE, gateway=account(name), scheme=Scheme.ED25519))

    def unbond(self, name: str, amount: int) -> Then:
        return self.done(Unbond(election=QUEUE, gateway=account(name), amount=amount))

    # -------------------------------------------------------------------------------------------- what is to be seen

    def ask(self, query: Message, kind: type[M]) -> M:
        answer = self.given.ask(query)
        assert isinstance(answer, kind), answer
        return answer

    def open(self, known: str = "xyz") -> str:
        return names([row.request for row in self.ask(PendingRequests(election=QUEUE), RequestPage).requests], known)

    def ballot(self, known: str = "xyz") -> str:
        return names([row.request for row in self.ask(ActiveRequests(election=QUEUE), RequestPage).requests], known)

    def assigned(self, known: str = "xyz") -> str:
        return names([row.request for row in self.ask(AssignedRequests(election=QUEUE), AssignedRequestPage).requests], known)

    def results(self, round: int = 0) -> ResultsPage:
        return self.ask(Results(election=QUEUE, round=round), ResultsPage)

    def executions(self, round: int = 0) -> ExecutionPage:
        return self.ask(ExecutionResults(election=QUEUE, round=round), ExecutionPage)

    def gateway(self, name: str) -> GatewayReport:
        page = self.ask(ListGateways(election=QUEUE), GatewayPage)
        return next(row for row in page.gateways if row.gateway == account(name))

    def queue(self) -> QueueReport:
        return self.ask(GetQueue(election=QUEUE), QueueReport)

    def history(self) -> list[str]:
        page = self.given.ask(QueryHistory(election=QUEUE))
        return [row.message.rsplit(".", 1)[-1] for row in page.events]  # type: ignore[union-attr]

    def replays(self) -> None:
        """The same events build the same rows."""
        assert self.given.replayed().rows.all() == self.given.rows.all()


def voting(config: GatewaysConfig = SHORT, **stakes: int) -> Story:
    """At height 5: x and y are in the ballot of round 0, and gateways of these stakes may vote (A and B with 100, unless told)."""
    story = Story(config)
    story.gateways(**(stakes or {"A": 100, "B": 100}))
    story.done(submit("x"), submit("y"))
    story.reach(5)
    return story


def block(number: int, branch: str = "a") -> BlockRef:
    return BlockRef(digest(f"{number}/{branch}"), number)


def assigned(**weights: int) -> Story:
    """At height 9: gateways gave x these weights, of a stake of 100 each."""
    story = voting(**dict.fromkeys(weights, 100))
    story.done(*(vote(name, "x", weight) for name, weight in weights.items()))
    story.reach(9)
    return story
