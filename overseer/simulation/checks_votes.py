"""What the votes database must be: a plain model of the rules of disputes, and the checker that holds it against the journal.

Written from docs/disputes.md alone, with whole sets that are looked at anew for every bundle; it shares no rule with the
subsystem. `expected` says what must follow from each input, as the tuples of `checks_votes_events`.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import sr25519  # pyright: ignore[reportMissingTypeStubs]
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from messages.chain_api import BlockImported
from messages.polkadot import CandidateReceipt, Scheme, Side, Validator, VoteKind
from messages.scale import ScaleError, candidate_hash
from messages.signals import BlocksBlacklisted, SessionChange
from messages.votes_db import Dispute, DisputeStatus, RegisterVote
from overseer.simulation.checks_course import Input, differ, timer_of
from overseer.simulation.checks_votes_events import Outcome, observed
from overseer.simulation.scenario import AtRest, Violation

__all__ = ["Slot", "Tally", "VotesModel", "payload", "verifies"]

NAME = "votes"
Key = tuple[int, bytes]
_PREFIX = {
    VoteKind.EXPLICIT_VALID: b"DISP\x01",
    VoteKind.EXPLICIT_INVALID: b"DISP\x00",
    VoteKind.BACKING_SECONDED: b"BKNG\x01",
    VoteKind.BACKING_VALID: b"BKNG\x02",
    VoteKind.APPROVAL: b"APPR",
}
_BACKING = (VoteKind.BACKING_SECONDED, VoteKind.BACKING_VALID)
_CONCLUDED = (DisputeStatus.CONCLUDED_FOR, DisputeStatus.CONCLUDED_AGAINST)


class Slot(NamedTuple):
    """One vote of one validator on one side."""

    kind: VoteKind
    signature: bytes
    several: tuple[bytes, ...] = ()


class Statement(NamedTuple):
    validator: int
    slot: Slot


def payload(slot: Slot, candidate: bytes, session: int, relay_parent: bytes) -> bytes | None:
    """What the vote signs; None when there can be no such vote on this candidate."""
    end = session.to_bytes(4, "little")
    if slot.kind is VoteKind.APPROVAL_MULTIPLE:
        if candidate not in slot.several or len(slot.several) > 64:
            return None
        count = bytes([len(slot.several) << 2]) if len(slot.several) < 64 else (len(slot.several) << 2 | 1).to_bytes(2, "little")
        return b"APPR" + (b"" if len(slot.several) == 1 else count) + b"".join(slot.several) + end
    if slot.several:
        return None
    return _PREFIX[slot.kind] + candidate + end + (relay_parent if slot.kind in _BACKING else b"")


@lru_cache(maxsize=65_536)
def verifies(validator: Validator, message: bytes, signature: bytes) -> bool:
    """Asked of the libraries themselves."""
    try:
        if validator.scheme is Scheme.SR25519:
            return bool(sr25519.verify(signature, message, validator.key))  # pyright: ignore
        VerifyKey(validator.key).verify(message, signature)
        return True
    except (ValueError, TypeError, CryptoError):
        return False


class Tally:
    """All that is known of the votes on one candidate in one session."""

    def __init__(self, size: int, receipt: CandidateReceipt, *, known: bool) -> None:
        self.size = size
        self.receipt = receipt
        self.known = known
        self.pro: dict[int, Slot] = {}
        self.cons: dict[int, Slot] = {}
        self.status = DisputeStatus.NONE
        self.concluded_at_ms: int | None = None
        self.challenged = False
        self.lifted = False
        self.cascade = False
        self.slots: set[int] = set()
        # (validator, verdict) that was rewarded, slashed.
        self.rewarded: set[tuple[int, bool]] = set()
        self.slashed: set[tuple[int, bool]] = set()
        self.pov: bytes | None = None

    @property
    def faulty_max(self) -> int:
        return (self.size - 1) // 3

    def side(self, kind: VoteKind) -> dict[int, Slot]:
        return self.cons if kind is VoteKind.EXPLICIT_INVALID else self.pro

    def copy(self) -> "Tally":
        other = Tally(self.size, self.receipt, known=self.known)
        other.__dict__.update(self.__dict__)
        other.pro, other.cons = dict(self.pro), dict(self.cons)
        return other

    def state(self) -> DisputeStatus:
        """A function of the votes alone."""
        if not self.pro or not self.cons:
            return DisputeStatus.NONE
        enough = self.size - self.faulty_max
        if len(self.cons) >= enough:
            return DisputeStatus.CONCLUDED_AGAINST
        if len(self.pro) >= enough:
            return DisputeStatus.CONCLUDED_FOR
        return DisputeStatus.CONFIRMED if len({*self.pro, *self.cons}) > self.faulty_max else DisputeStatus.ACTIVE

    @property
    def potential_spam(self) -> bool:
        return self.state() is DisputeStatus.ACTIVE and not self.known


class VotesModel:
    """One node's votes database by definition."""

    def __init__(self, window: int, spam_slots: int, held_max: int) -> None:
        self.window = window
        self.spam_slots = spam_slots
        self.held_max = held_max
        self.sessions: dict[int, Sequence[Validator]] = {}
        self.current: int | None = None
        self.tallies: dict[Key, Tally] = {}
        # (session of the block, candidate), and whether it was included there.
        self.on_chain: dict[Key, bool] = {}
        self.held: dict[Key, Dispute] = {}
        # Held until its session had left the window again: it goes with the pruning, or is released with nothing imported.
        self.outlived: set[Key] = set()
        self.pruned_through: int | None = None

    @property
    def oldest(self) -> int:
        return max(0, (self.current or 0) - self.window + 1)

    def slots_of(self, session: int, validator: int) -> int:
        return sum(validator in tally.slots for (of, _), tally in self.tallies.items() if of == session)

    # -------------------------------------------------------------------------------------------- one input

    def take(self, given: Input) -> None:
        expected = list(self._expected(given))
        found = [outcome for event in given.events for outcome in observed(event) if not self._of_the_past(outcome)]
        differ(NAME, "what follows is not what the rules say", expected, found)

    def _of_the_past(self, outcome: Outcome) -> bool:
        """What is told of a session that has left the window, before the pruning comes to it."""
        match outcome:
            case ("cascade", int() as session, *_):
                return session < self.oldest
            case ("released", int() as session, bytes() as candidate, "session_out_of_window") if (session, candidate) in self.outlived:
                self.outlived.discard((session, candidate))
                return True
            case _:
                return False

    def _expected(self, given: Input) -> Iterator[Outcome]:
        match given.message:
            case RegisterVote() | Dispute():
                refusal, outcomes = self._bundle(given.message, given.now_ms)
                if given.code != (refusal or "accepted"):
                    raise Violation(NAME, f"a bundle had the outcome {given.code}, the rules say {refusal or 'accepted'}")
                yield from outcomes
            case SessionChange():
                yield from self._session(given.message)
            case BlockImported():
                yield from self._block(given.message)
            case BlocksBlacklisted():
                yield from self._told_of_cascade((given.message.cause.session, given.message.cause.candidate))
            case _:
                match timer_of(given):
                    case "import_held":
                        if not self._outlived_released(given):
                            yield from self._import_held(given.now_ms)
                    case "prune_step":
                        yield from self._pruned(given)
                    case _:
                        pass

    def _session(self, message: SessionChange) -> Iterator[Outcome]:
        if self.current is not None and message.index < self.oldest:
            return
        if message.index in self.sessions:
            return
        if self.current is None and message.index < 0:
            return
        self.sessions[message.index] = message.validators
        self.current = max(message.index, self.current or 0)
        for session in [s for s in self.sessions if s < self.oldest]:
            del self.sessions[session]
        yield ("session", message.index, tuple((v.scheme, v.key) for v in message.validators), self.current, self.oldest)
        self.outlived.update(key for key in self.held if key[0] < self.oldest)
        for table in (self.tallies, self.held):
            for key in [key for key in table if key[0] < self.oldest]:
                del table[key]

    def _block(self, message: BlockImported) -> Iterator[Outcome]:
        if self.current is not None and message.session < self.oldest:
            return
        for candidate in {*message.backed, *message.included}:
            key, included = (message.session, candidate), candidate in message.included
            if key in self.on_chain and (self.on_chain[key] or not included):
                # Told again by a chain that lost its store: nothing follows a second time.
                continue
            self.on_chain[key] = included
            for (_, of), tally in self.tallies.items():
                if of == candidate:
                    tally.known = True
                    tally.slots.clear()
        # How it remembers this is its own affair.
        yield from ()

    def _told_of_cascade(self, key: Key) -> Iterator[Outcome]:
        tally = self.tallies.get(key)
        if tally is not None and not tally.cascade:
            tally.cascade = True
            yield ("cascade", *key)

    def _pruned(self, given: Input) -> Iterator[Outcome]:
        """How many steps it takes is its own affair; what is gone is looked at in the end."""
        for event in given.events:
            for outcome in observed(event):
                if outcome[0] == "pruned":
                    if outcome[1] != self.oldest - 1:
                        raise Violation(NAME, f"told that sessions through {outcome[1]} are pruned, the window begins at {self.oldest}")
                    self.pruned_through = self.oldest - 1
                    self.outlived.clear()
                    yield outcome

    # -------------------------------------------------------------------------------------------- bundles

    def _refusal(self, message: RegisterVote | Dispute) -> str | None:
        session = message.session_index
        if self.current is None or session not in self.sessions:
            return "session_out_of_window"
        try:
            whole = candidate_hash(message.candidate) == message.candidate_hash
        except ScaleError:
            whole = False
        return None if whole and self._attested(message) is not None and self._statements(message) else "malformed_bundle"

    def _attested(self, message: RegisterVote | Dispute) -> list[Statement] | None:
        """The backing statements; None when bits and attestations do not go together."""
        if isinstance(message, Dispute):
            return []
        bits = [i for i in range(8 * len(message.backing_validators)) if message.backing_validators[i // 8] >> i % 8 & 1]
        size = len(self.sessions[message.session_index])
        if message.validity_votes and (len(message.backing_validators) != (size + 7) // 8 or not bits or bits[-1] >= size):
            return None
        if len(bits) != len(message.validity_votes):
            return None
        kinds = {"implicit": VoteKind.BACKING_SECONDED, "explicit": VoteKind.BACKING_VALID}
        return [Statement(i, Slot(kinds[a.kind.value], a.signature)) for i, a in zip(bits, message.validity_votes, strict=True)]

    def _statements(self, message: RegisterVote | Dispute) -> list[Statement]:
        votes = message.votes if isinstance(message, Dispute) else message.explicit_votes
        explicit = [Statement(v.validator, Slot(v.kind, v.signature, tuple(v.candidates))) for v in votes]
        return [*(self._attested(message) or ()), *explicit]

    def _bundle(self, message: RegisterVote | Dispute, now_ms: int) -> tuple[str | None, list[Outcome]]:
        refusal = self._refusal(message)
        if refusal is not None:
            return self._held(message) if isinstance(message, Dispute) and refusal == "session_out_of_window" else (refusal, [])
        key = (message.session_index, message.candidate_hash)
        before = self.tallies.get(key)
        if before is None:
            known = any(c == key[1] and self.oldest <= s <= (self.current or 0) + 1 for s, c in self.on_chain)
            before = Tally(len(self.sessions[key[0]]), message.candidate, known=known)
        after = before.copy()
        fresh = [s for s in self._statements(message) if self._enters(after, s, key, message.candidate.descriptor.relay_parent)]
        outcomes: list[Outcome] = []
        if fresh:
            slots = self._slots(key[0], before, after)
            if slots is None:
                return "spam_refused", []
            after.slots = before.slots | slots
            outcomes += [("vote", *key, s.validator, *s.slot) for s in fresh]
            outcomes += [("slot", *key, validator) for validator in sorted(slots)]
            outcomes += self._consequences(key, before, after, now_ms, gossiped=isinstance(message, Dispute))
        if fresh and key not in self.tallies:
            outcomes.append(("opened", *key, after.known, after.size))
        if fresh or key in self.tallies:
            self.tallies[key] = after
        return None, outcomes

    def _enters(self, tally: Tally, statement: Statement, key: Key, relay_parent: bytes) -> bool:
        """Whether the vote is news; then it is in the tally."""
        validator, slot = statement
        signed = payload(slot, key[1], key[0], relay_parent)
        if validator >= tally.size or signed is None or not verifies(self.sessions[key[0]][validator], signed, slot.signature):
            return False
        side = tally.side(slot.kind)
        present = side.get(validator)
        if present is not None and not (slot.kind in _BACKING and present.kind not in _BACKING):
            return False
        side[validator] = slot
        return True

    def _slots(self, session: int, before: Tally, after: Tally) -> set[int] | None:
        """Who takes a spam slot; None: nobody has room, and the bundle is refused."""
        if not after.potential_spam:
            return set()
        voters = set(after.cons) if before.state() is DisputeStatus.NONE else set(after.cons) - set(before.cons)
        takers = {v for v in voters if self.slots_of(session, v) < self.spam_slots}
        return None if voters and not takers else takers

    def _consequences(self, key: Key, before: Tally, after: Tally, now_ms: int, *, gossiped: bool) -> Iterator[Outcome]:
        both = set(after.pro) & set(after.cons)
        yield from (("double", *key, v) for v in sorted(both - (set(before.pro) & set(before.cons))))
        status = after.status = after.state()
        if status is DisputeStatus.NONE:
            return
        if before.status is DisputeStatus.NONE:
            second = after.pro if before.cons else after.cons
            yield ("detected", *key, min(second), not gossiped)
        if status is not before.status:
            yield ("status", *key, status, before.status)
        if not after.potential_spam:
            after.slots = set()
        if status in _CONCLUDED and after.concluded_at_ms is None:
            after.concluded_at_ms = now_ms
        if status is DisputeStatus.CONCLUDED_FOR:
            if after.challenged and not after.lifted:
                after.lifted = True
                yield ("lifted", *key)
        elif not after.challenged and len(after.cons) > after.faulty_max:
            after.challenged = True
            yield ("challenged", *key)
        if status in _CONCLUDED:
            yield from _judged(key, before, after)

    # -------------------------------------------------------------------------------------------- gossip for a later session

    def _held(self, message: Dispute) -> tuple[str | None, list[Outcome]]:
        key = (message.session_index, message.candidate_hash)
        near = self.current is None or self.current < key[0] <= self.current + self.window
        if not near or key in self.held or len(self.held) >= self.held_max:
            return "session_out_of_window", []
        self.held[key] = message
        return None, [("held", *key)]

    def _outlived_released(self, given: Input) -> bool:
        """Those of sessions that have gone again come before the others."""
        return any(outcome[0] == "released" and outcome[1:3] in self.outlived for event in given.events for outcome in observed(event))

    def _import_held(self, now_ms: int) -> Iterator[Outcome]:
        """One of them at a time, the first."""
        key = min((key for key in self.held if key[0] in self.sessions), default=None)
        if key is not None:
            refusal, outcomes = self._bundle(self.held.pop(key), now_ms)
            yield from outcomes
            yield ("released", *key, refusal)

    def at_rest(self, rest: AtRest, node: str) -> None:
        """See checks_votes_rest."""


def _judged(key: Key, before: Tally, after: Tally) -> Iterator[Outcome]:
    """A verdict is told once; everybody gets what the verdict makes of all votes so far, once."""
    valid = after.status is DisputeStatus.CONCLUDED_FOR
    verdict = Side.VALID if valid else Side.INVALID
    if after.status is not before.status:
        voters = sorted({*after.pro, *after.cons})
        yield ("resolved", *key, valid, tuple((v, v in after.pro, v in after.cons) for v in voters))
    right, wrong = (after.pro, after.cons) if valid else (after.cons, after.pro)
    after.rewarded, after.slashed = set(after.rewarded), set(after.slashed)
    for validator in sorted(right.keys() - wrong.keys()):
        if (validator, valid) not in after.rewarded:
            after.rewarded.add((validator, valid))
            yield ("reward", *key, validator, verdict, right[validator].kind, right[validator].signature)
    for validator in sorted(wrong):
        if (validator, valid) not in after.slashed:
            after.slashed.add((validator, valid))
            yield ("slash", *key, validator, verdict, wrong[validator].kind, wrong[validator].signature)
