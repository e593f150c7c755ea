"""The mailroom of a site: commands and queries for any election, taken at any site (point 3 of the runtime).

A command is delivered to the election's writer if that is here, else forwarded; nothing is recorded on the way. A query is answered from
the copy here, with how fresh it is, or by a site that has one.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from messages.codec import CodecError, decode, encode
from messages.election_pairs import (
    CopyReport,
    Forwarded,
    Freshness,
    GetCopy,
    NotOwnedYet,
    NotOwnedYetReason,
    Record,
)
from messages.elections import ListElections, OfElection
from messages.message import CATALOG, Kind, Message, Rejection, Spec
from messages.overseer import Busy, CommandOutcome, InvalidRequest, OutcomeStatus, Timeout
from messages.subjects import CONTENT_CBOR, HEADER_CONTENT_TYPE
from overseer.limits import Limits
from overseer.ports.bus import BusError, BusUnavailable, Request, Response
from overseer.ports.entropy import Entropy
from overseer.runner.endpoints import Admission
from overseer.runner.responses import outcome_response, read_command_id, read_request, refuse, respond, wants_json
from overseer.sites.deciding import HANDLER_FAILED, Asked, command_of
from overseer.sites.hosted import Hosted
from overseer.sites.hosting import Hosting
from overseer.sites.surroundings import Surroundings
from overseer.sites.tables import KNOWN
from overseer.subsystem import Context, Declaration
from overseer.verification import verify_check
from subsystems.elections.runtime.entry import BEGIN
from subsystems.elections.runtime.routing import HOPS_MAX, CatchUp, Deliver, Forward, route
from subsystems.elections.runtime.rows import COPIES
from subsystems.elections.runtime.steps import Command

__all__ = ["ALL", "HEADER_FRESHNESS", "HEADER_REQUIRED", "Mailroom", "asked_by_mail"]

# In the place of the key where a query concerns all elections: no key is like it.
ALL = "_"
# Of an answer: applied, committed, age in milliseconds, 1 if stale.
HEADER_FRESHNESS = "Overseer-Freshness"
# Of a query: the event that the answer must rest on, at least; refused with `not_applied_yet` else.
HEADER_REQUIRED = "Overseer-Required"


def asked_by_mail(declaration: Declaration) -> list[type[Message]]:
    """What a site is asked for people: of what the elections declare that which is of elections (peers are a node's), and for copies."""
    declared = (*declaration.requests, *declaration.answers, GetCopy)
    return [message for message in declared if issubclass(message, OfElection | ListElections)]


class Mailroom:
    """`caught_up_ms`: when this site's reader of the log was last at its end. `at_version`: waits for a version of the topology."""

    def __init__(
        self,
        around: Surroundings,
        hosting: Hosting,
        entropy: Entropy,
        *,
        limits: Limits,
        caught_up_ms: Callable[[], int],
        at_version: Callable[[int, int], Awaitable[bool]],
    ) -> None:
        self._around = around
        self._hosting = hosting
        self._entropy = entropy
        self._admission = Admission(limits)
        self._caught_up_ms = caught_up_ms
        self._at_version = at_version
        # Commands that are at other sites.
        self._away: set[anyio.CancelScope] = set()
        declared = around.elections.declaration
        self._commands = {message.spec.name: message.spec for message in declared.requests}
        self._queries = {message.spec.name: message.spec for message in (*declared.answers, GetCopy)}

    # -------------------------------------------------------------------------------------------- from people

    async def handle(self, request: Request) -> Response:
        """One request on `...mail.<key>.<command or query>`."""
        as_json = wants_json(request)
        key, _, name = request.subject.partition(".mail.")[2].rpartition(".")
        spec = self._commands.get(name) or self._queries.get(name)
        if spec is None:
            return refuse(InvalidRequest(reason="unknown_message", detail=f"elections take no {name[:80]}"), as_json)
        busy = self._admission.refusal(request.account, len(request.body))
        if busy:
            return refuse(Busy(reason=busy), as_json)
        try:
            message = read_request(spec, request)
            if (message.election if isinstance(message, OfElection) else ALL) != key:
                raise CodecError("wrong_key", "the body is for another election than the subject")
            command_id = read_command_id(request) or self._entropy.draw(16).hex()
            required = _required(request)
        except CodecError as error:
            return refuse(InvalidRequest(reason=error.reason, detail=error.detail), as_json)
        with self._admission.taken(request.account, len(request.body)):
            if spec.kind is Kind.QUERY:
                return _shown(spec, await self._query(message, required, ()), as_json)
            assert isinstance(message, OfElection)
            until_ms = self._around.clock.now_ms() + self._around.limits.command_ms
            # The bytes that came are good enough for another site, which reads them as this one did.
            body = encode(message) if as_json else request.body
            sent = self._forwarded(message, body, command_id, request.account)
            outcome = await self._command(message, sent, until_ms)
        if outcome is None:
            return refuse(Timeout(waited_ms=self._around.limits.command_ms), as_json)
        return outcome_response(spec, outcome, as_json, command_id)

    def _forwarded(self, message: OfElection, body: bytes, command_id: str, caller: str, required: int = 0) -> Forwarded:
        """As it is sent on from here, before it went anywhere. `body`: of the present version."""
        return Forwarded(
            election=message.election,
            site=self._around.site,
            topology=0,
            id=command_id,
            command=message.spec.key,
            version=message.spec.version,
            body=body,
            sender=f"req_{message.spec.owner}",
            caller=caller,
            path=[],
            required=required,
        )

    # -------------------------------------------------------------------------------------------- from other sites

    async def answer(self, sent: Forwarded) -> Response:
        """A command or query that another site sent on. The answer is CBOR."""
        spec = CATALOG.by_key(sent.command)
        if spec is None or spec not in (self._commands.get(spec.name), self._queries.get(spec.name)):
            return refuse(InvalidRequest(reason="unknown_message", detail=sent.command[:80]), False)
        message = decode(spec, sent.body, version=sent.version)
        if spec.kind is Kind.QUERY:
            return await self._query(message, sent.required, tuple(sent.path))
        assert isinstance(message, OfElection)
        outcome = await self._command(message, sent, self._around.clock.now_ms() + self._around.limits.command_ms)
        if outcome is None:
            return refuse(Timeout(waited_ms=self._around.limits.command_ms), False)
        return Response(outcome, {HEADER_CONTENT_TYPE: CONTENT_CBOR})

    # -------------------------------------------------------------------------------------------- commands

    async def _command(self, message: OfElection, sent: Forwarded, until_ms: int) -> bytes | None:
        """The CommandOutcome; None when there was none in time."""
        around, key, seen = self._around, message.election, sent.topology
        while True:
            topology = around.topology
            match route(topology.placement(key).writer, topology.version, site=around.site, seen=seen, path=sent.path):
                case Deliver():
                    command = command_of(sent.id, Asked(message, sent.sender, sent.caller))
                    outcome = await self._refused_at_once(key, command) or await self._hosting.submit(key, command, until_ms)
                    return None if outcome is None else encode(_outcome(outcome))
                case Forward(site, path):
                    version = max(seen, around.topology.version)
                    outcome = await self._forward(self._on(sent, path, version), site, until_ms)
                    if outcome is not None or around.clock.now_ms() >= until_ms:
                        return outcome
                case CatchUp(version):
                    if not await self._at_version(version, around.limits.catch_up_ms):
                        return _not_owned(key, NotOwnedYetReason.MOVED)
                case refused:
                    return _not_owned(key, refused.reason)

    async def _refused_at_once(self, key: str, command: Command) -> Record | None:
        """The refusal of a command for an election that never was. It is not recorded, so that mistyped keys fill no log.

        Whether there is the election is asked of the log, which has all that was ever acknowledged. None where its writer has to decide.
        """
        around = self._around
        if self._known(key):
            return None
        try:
            _, last = await around.log.last(key)
        except BusError:
            return None
        if last is not None or self._known(key):
            return None
        (verdict,) = around.decider.decide(around.ledger, key, [command], copies=0)
        return verdict if isinstance(verdict, Record) and verdict.code not in ("", HANDLER_FAILED) else None

    def _known(self, key: str) -> bool:
        """Whether anything of the election is, or may come to be, here; also where the log that had it is lost."""
        hosted = self._hosting.there(key)
        if hosted is not None and (hosted.member.follower.copy.stream or not hosted.idle):
            return True
        view = self._around.ledger.view
        return view.get(COPIES, (key,)) is not None or view.get(KNOWN, (key,)) is not None

    def turn_back(self) -> None:
        """The topology changed: somebody else may be the one for commands that are at other sites."""
        for forwarding in self._away:
            forwarding.cancel()

    async def _forward(self, sent: Forwarded, to: str, until_ms: int) -> bytes | None:
        """The outcome as `to` told it. None when it did not, or when the topology changed meanwhile."""
        around = self._around
        left_ms = min(around.limits.forward_ms, until_ms - around.clock.now_ms())
        if left_ms <= 0:
            return None
        with anyio.CancelScope() as forwarding:
            self._away.add(forwarding)
            try:
                with suppress(BusUnavailable):
                    response = await around.mail.ask(to, sent, left_ms)
                    if response.error is None:
                        return response.body
                # Nobody there, or too busy: not all the time.
                await around.sleep(around.limits.retry_ms)
            finally:
                self._away.discard(forwarding)
        return None

    def _on(self, sent: Forwarded, path: tuple[str, ...], version: int) -> Forwarded:
        return Forwarded(
            election=sent.election,
            site=self._around.site,
            topology=version,
            id=sent.id,
            command=sent.command,
            version=sent.version,
            body=sent.body,
            sender=sent.sender,
            caller=sent.caller,
            path=list(path),
            required=sent.required,
        )

    # -------------------------------------------------------------------------------------------- queries

    async def _query(self, query: Message, required: int, path: tuple[str, ...]) -> Response:
        """Answered here, or by a site with a copy."""
        around = self._around
        if not isinstance(query, OfElection):
            return _answered(around.elections.answer(around.ledger.view, query, self._context()), {})
        placement = around.topology.placement(query.election)
        hosted = self._hosting.find(query.election) if isinstance(query, GetCopy) or around.site in placement.sites else None
        # While its rows are replaced there is nothing here to answer from.
        whole = hosted is not None and not hosted.installing
        here = hosted is not None and whole and (bool(hosted.member.follower.copy.stream) or placement.writer == around.site)
        if hosted is not None and isinstance(query, GetCopy):
            return _answered(self._copy_report(hosted), {})
        if not here and not path:
            # Whoever writes knows it, if anybody does; the others are asked when it does not answer.
            others = dict.fromkeys((placement.writer, *placement.sites))
            response = await self._ask_others(query, required, [site for site in others if site not in (around.site, *placement.away)])
            if response is not None:
                return response
        if hosted is None or not whole:
            reason = NotOwnedYetReason.MOVED if hosted is None else NotOwnedYetReason.RECOVERING
            return _answered(NotOwnedYet(election=query.election, reason=reason), {})
        freshness = self._freshness(hosted)
        answer = hosted.member.readable(required) or around.elections.answer(around.ledger.view, query, self._context())
        told = f"{freshness.applied} {freshness.committed} {freshness.age_ms} {int(freshness.stale)}"
        return _answered(answer, {HEADER_FRESHNESS: told})

    async def _ask_others(self, query: OfElection, required: int, sites: list[str]) -> Response | None:
        sent = self._forwarded(query, encode(query), "", "", required)
        for site in sites[:HOPS_MAX]:
            try:
                onward = self._on(sent, (self._around.site,), self._around.topology.version)
                return await self._around.mail.ask(site, onward, self._around.limits.ask_ms)
            except BusUnavailable:
                continue
        return None

    def _freshness(self, hosted: Hosted) -> Freshness:
        around = self._around
        return hosted.member.freshness(
            caught_up_ms=self._caught_up_ms(), now_ms=around.clock.now_ms(), stale_after_ms=around.limits.stale_after_ms
        )

    def _copy_report(self, hosted: Hosted) -> CopyReport:
        around, member = self._around, hosted.member
        placement = around.topology.placement(hosted.key)
        return CopyReport(
            election=hosted.key,
            site=around.site,
            topology=around.topology.version,
            sites=list(placement.sites),
            away=list(placement.away),
            writer=placement.writer,
            head=BEGIN if hosted.installing else member.follower.copy.applied,
            serving=member.writer is not None,
            freshness=self._freshness(hosted),
        )

    def _context(self) -> Context:
        return Context(now_ms=self._around.clock.now_ms(), sender="", verify=verify_check)


def _required(request: Request) -> int:
    text = request.headers.get(HEADER_REQUIRED, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise CodecError("bad_header", f"{HEADER_REQUIRED} is the number of an event")
    return int(text)


def _outcome(outcome: Record | Rejection) -> CommandOutcome:
    """As a caller is told. `sequence` has no meaning here: the reply tells the event's number."""
    if isinstance(outcome, Rejection):
        return CommandOutcome(
            status=OutcomeStatus.REJECTED, sequence=0, code=outcome.code, detail=encode(outcome), retriable=outcome.retriable
        )
    if not outcome.code:
        return CommandOutcome(status=OutcomeStatus.ACCEPTED, sequence=0, reply=outcome.outcome or None)
    if outcome.code == HANDLER_FAILED:
        return CommandOutcome(status=OutcomeStatus.PARKED, sequence=0, code=outcome.code, detail=outcome.outcome)
    spec = CATALOG.find(Kind.REJECTION, "elections", outcome.code)
    detail = decode(spec, outcome.outcome) if spec is not None else None
    retriable = isinstance(detail, Rejection) and detail.retriable
    return CommandOutcome(status=OutcomeStatus.REJECTED, sequence=0, code=outcome.code, detail=outcome.outcome, retriable=retriable)


def _not_owned(key: str, reason: NotOwnedYetReason) -> bytes:
    return encode(_outcome(NotOwnedYet(election=key, reason=reason)))


def _answered(answer: Message | Rejection, headers: dict[str, str]) -> Response:
    response = refuse(answer, False) if isinstance(answer, Rejection) else respond(answer, False)
    return Response(response.body, {**response.headers, **headers}, response.error)


def _shown(spec: Spec, response: Response, as_json: bool) -> Response:
    """The answer to a query as the caller wants it."""
    if not as_json:
        return response
    owners = ("elections", "overseer")
    found = [CATALOG.find(Kind.REJECTION, owner, response.error[1]) for owner in owners] if response.error is not None else [spec.reply]
    body = next((each.spec if not isinstance(each, Spec) else each for each in found if each is not None), None)
    if body is None:
        return response
    message = decode(body, response.body)
    shown = refuse(message, True) if isinstance(message, Rejection) else respond(message, True)
    return Response(shown.body, {**response.headers, **shown.headers}, response.error)
