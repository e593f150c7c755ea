"""The votes database at rest: its answers and its rows must be what the model came to."""

from collections.abc import Iterator

import msgspec

from messages.polkadot import VoteKind
from messages.votes_db import (
    CandidateHashes,
    Candidates,
    DisputeStatus,
    DisputeSummaries,
    QueryBySession,
    QueryByValidatorAndSessionIndex,
    QueryByValidatorId,
    QueryVotes,
    RecentDisputes,
    VotesSnapshot,
)
from overseer.simulation.checks_course import ask, differ
from overseer.simulation.checks_votes import Slot, Tally, VotesModel, payload, verifies
from overseer.simulation.scenario import AtRest, Violation

__all__ = ["VotesAtRest"]

NAME = "votes"
_SUBSYSTEM = "votes_db"
# Tables whose keys begin with a session, which nothing may be left of once it has left the window.
_BY_SESSION = ("votes", "voted", "disputed", "disputes", "candidates", "spam", "known", "held", "sessions")


class VotesAtRest(VotesModel):
    """The model, and the look at what is stored."""

    def at_rest(self, rest: AtRest, node: str) -> None:
        for (session, candidate), tally in sorted(self.tallies.items()):
            self._snapshot(rest, node, session, candidate, tally)
        self._lists(rest, node)
        self._rows(rest, node)

    def _snapshot(self, rest: AtRest, node: str, session: int, candidate: bytes, tally: Tally) -> None:
        """Every vote that was accepted is there and verifies; the status is what the votes make it."""
        where = f"{node}: the dispute over {candidate.hex()[:8]} in session {session}"
        pages = list(_pages(rest, node, session, candidate))
        first = pages[0]
        stored = [(v.validator, Slot(v.kind, v.signature, tuple(v.candidates))) for page in pages for v in page.votes]
        for validator, slot in stored:
            signed = payload(slot, candidate, session, tally.receipt.descriptor.relay_parent)
            if signed is None or not verifies(self.sessions[session][validator], signed, slot.signature):
                raise Violation(NAME, f"{where}: the stored vote of validator {validator} does not verify")
        differ(NAME, f"{where}: votes", [*tally.pro.items(), *tally.cons.items()], stored)
        pro = sorted({v for v, slot in stored if slot.kind is not VoteKind.EXPLICIT_INVALID})
        cons = sorted({v for v, slot in stored if slot.kind is VoteKind.EXPLICIT_INVALID})
        told = (first.pro, first.cons, first.status, first.concluded_at_ms, first.validators, first.cascade_told)
        due = (pro, cons, tally.state(), tally.concluded_at_ms, tally.size, tally.cascade)
        if told != due:
            raise Violation(NAME, f"{where}: answered {told}, the votes say {due}")

    def _lists(self, rest: AtRest, node: str) -> None:
        for session, validators in sorted(self.sessions.items()):
            voted = [c for s, c in self.tallies if s == session]
            differ(NAME, f"{node}: candidates of session {session}", voted, _by_session(rest, node, session))
            index = session % len(validators)
            mine = [c for (s, c), t in self.tallies.items() if s == session and (index in t.pro or index in t.cons)]
            query = QueryByValidatorAndSessionIndex(session=session, validator=index)
            differ(NAME, f"{node}: voted by {index} in {session}", mine, _hashes(rest, node, query))
            key = validators[index].key
            anywhere = {
                c
                for (s, c), t in self.tallies.items()
                if any(v.key == key and (i in t.pro or i in t.cons) for i, v in enumerate(self.sessions[s]))
            }
            differ(NAME, f"{node}: voted by the key {key.hex()[:8]}", list(anywhere), _by_key(rest, node, key))
        answer = ask(NAME, rest, node, RecentDisputes(), DisputeSummaries)
        found = [(d.session, d.candidate, d.status, d.valid_votes, d.invalid_votes, d.concluded_at_ms) for d in answer.disputes]
        due = [
            (s, c, t.state(), len(t.pro), len(t.cons), t.concluded_at_ms)
            for (s, c), t in self.tallies.items()
            if t.state() is not DisputeStatus.NONE
        ]
        differ(NAME, f"{node}: recent disputes", due, found)

    def _rows(self, rest: AtRest, node: str) -> None:
        store = rest.store(node, _SUBSYSTEM)
        for table in _BY_SESSION:
            for key, _ in store.scan(table, b"", self.oldest.to_bytes(4, "big")):
                raise Violation(NAME, f"{node}: {table} still holds {key.hex()[:16]} of a session before {self.oldest}")
        ids = [key for key, _ in store.scan("ids", b"", None)]
        due = [
            v.key + session.to_bytes(4, "big") + index.to_bytes(4, "big")
            for session, validators in self.sessions.items()
            for index, v in enumerate(validators)
        ]
        differ(NAME, f"{node}: index by validator id", due, ids)
        slots = [(int.from_bytes(key[:4], "big"), int.from_bytes(key[4:], "big"), value[0]) for key, value in store.scan("spam", b"", None)]
        takers = {(session, v) for (session, _), tally in self.tallies.items() for v in tally.slots}
        differ(NAME, f"{node}: spam slots", [(s, v, self.slots_of(s, v)) for s, v in takers], slots)
        held = [(int.from_bytes(key[:4], "big"), key[4:]) for key, _ in store.scan("held", b"", None)]
        differ(NAME, f"{node}: held disputes", list(self.held), held)


def _pages(rest: AtRest, node: str, session: int, candidate: bytes) -> Iterator[VotesSnapshot]:
    after: int | None = None
    while True:
        page = ask(NAME, rest, node, QueryVotes(session=session, candidate=candidate, after=after), VotesSnapshot)
        yield page
        if page.next is None:
            return
        after = page.next


def _hashes(rest: AtRest, node: str, query: QueryBySession | QueryByValidatorAndSessionIndex) -> list[bytes]:
    found: list[bytes] = []
    while True:
        page = ask(NAME, rest, node, query, CandidateHashes)
        found += page.hashes
        if page.next is None:
            return found
        query = msgspec.structs.replace(query, after=page.next)


def _by_session(rest: AtRest, node: str, session: int) -> list[bytes]:
    return _hashes(rest, node, QueryBySession(session=session))


def _by_key(rest: AtRest, node: str, key: bytes) -> list[bytes]:
    found: list[bytes] = []
    after: bytes | None = None
    while True:
        page = ask(NAME, rest, node, QueryByValidatorId(validator_id=key, after=after), Candidates)
        found += [c.candidate for c in page.candidates]
        if page.next is None:
            return found
        after = page.next
