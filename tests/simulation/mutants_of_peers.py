"""Mutants of peer elections: rules of elections, proofs, the list and what is kept, each broken in one place."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from msgspec.structs import replace
from mutants import Mutant, patched, registering

from messages.message import Rejection
from messages.peers import PeerChannelOpened, PeerEvent, PeerReferral, PeerRow
from subsystems.elections.peers import clusters, election, introducing, kind, participant, responding
from subsystems.elections.peers.clusters import Cluster, Member, Response
from subsystems.elections.peers.election import PeerElection, Refusal, Refused
from subsystems.elections.peers.introducing import Introducing
from subsystems.elections.peers.kind import PeerElections
from subsystems.elections.peers.measures import Measures
from subsystems.elections.peers.participant import Governance, Participant, Tick
from subsystems.elections.peers.responding import Responding
from subsystems.elections.peers.ring import distance
from subsystems.elections.peers.roster import Roster
from subsystems.elections.peers.rows import Mirror
from subsystems.elections.peers.running import Own

__all__ = ["PEERS_MUTANTS"]

PEERS_MUTANTS: dict[str, Mutant] = {}
mutant = registering(PEERS_MUTANTS)


# ------------------------------------------------------------------------------------------------ what answers come to


def _judging(**changed: Callable[[Any], Any]) -> AbstractContextManager[None]:
    judged = election.judged

    def otherwise(*args: Any, **rules: Any) -> Any:
        return judged(*args, **{name: changed[name](value) if name in changed else value for name, value in rules.items()})

    return patched(election, "judged", otherwise)


@mutant
def a_minority_elects() -> AbstractContextManager[None]:
    """The largest cluster wins, however many others answered (P14)."""
    return _judging(majority_percent=lambda percent: 1)


@mutant
def seven_of_ten_agree() -> AbstractContextManager[None]:
    """The threshold is one lower (P11)."""
    return _judging(threshold=lambda threshold: threshold - 1)


@mutant
def mappings_of_void_blocks_agree() -> AbstractContextManager[None]:
    """Blacklisted blocks count like others."""
    return _judging(void=lambda void: frozenset())


@mutant
def the_farthest_wins() -> AbstractContextManager[None]:
    """Not the nearest member of a cluster (P12)."""

    def farthest(clique: list[int], responses: list[Response], token: int) -> Cluster:
        members = [responses[n] for n in clique]
        winner = max((member.peer for member in members), key=lambda peer: (distance(peer, token), peer))
        return Cluster(winner, tuple(Member(member.peer, member.mappings) for member in members))

    return patched(clusters, "_cluster", farthest)


@mutant
def nothing_is_collected() -> AbstractContextManager[None]:
    """An election is over as soon as two agree (P15)."""
    return patched(Own, "_collection_ms", property(lambda self: 0))


# ------------------------------------------------------------------------------------------------ whose answers count


@mutant
def whoever_answers_twice_still_counts() -> AbstractContextManager[None]:
    """Nobody is blocked (P08)."""
    return patched(PeerElection, "_block", lambda self, peer: None)


@mutant
def a_second_answer_blocks_bystanders_too() -> AbstractContextManager[None]:
    """Whoever else has answered is punished for it (P08)."""
    handle = PeerElection.handle_answer

    def harsh(self: PeerElection, answer: Any) -> Any:
        taken = handle(self, answer)
        if isinstance(taken, Refused) and taken.code is Refusal.DUPLICATE_RESPONSE:
            for channel in self.state.channels:
                if channel.response is not None:
                    self._block(channel.response.peer)
        return taken

    return patched(PeerElection, "handle_answer", harsh)


@mutant
def a_bad_seal_blocks_whom_it_names() -> AbstractContextManager[None]:
    """Anybody could have anybody blocked."""
    handle = PeerElection.handle_answer

    def credulous(self: PeerElection, answer: Any) -> Any:
        taken = handle(self, answer)
        if isinstance(taken, Refused) and taken.code is Refusal.SIGNATURE_VERIFICATION_FAILED and taken.flaw is None:
            self._block(answer.responder)
        return taken

    return patched(PeerElection, "handle_answer", credulous)


@mutant
def any_seal_is_good() -> AbstractContextManager[None]:
    """Seals are not checked (P06)."""
    return patched(kind, "key_authentic", lambda verify: lambda peer, message, seal: True)


@mutant
def whoever_sends_may_say_it() -> AbstractContextManager[None]:
    """What somebody else said is listened to from anybody (P24)."""

    class Anybody(int):
        def __ne__(self, other: object) -> bool:
            return False

    return patched(participant, "_author", lambda message: Anybody())


def _flaws(*modules: Any, **rules: Any) -> AbstractContextManager[None]:
    """`rules`: what is looked at in another way; without any nothing is."""
    stack = ExitStack()
    for module in modules:
        flaw_of = module.flaw_of
        stack.enter_context(
            patched(module, "flaw_of", lambda *args, _of=flaw_of, **known: _of(*args, **{**known, **rules}) if rules else None)
        )
    return stack


@mutant
@contextmanager
def any_answer_is_a_proof() -> Iterator[None]:
    """Proofs in elections are not looked at (P20)."""
    with _flaws(election):
        yield


@mutant
@contextmanager
def any_introduction_is_a_proof() -> Iterator[None]:
    """Proofs in introductions are not looked at."""
    with _flaws(introducing):
        yield


@mutant
@contextmanager
def what_nobody_else_holds_is_believed() -> Iterator[None]:
    """Fabricated ids pass, if only their low bits are right."""
    with _flaws(election, introducing, familiar_min=0):
        yield


@mutant
@contextmanager
def another_block_than_ones_own_is_believed() -> Iterator[None]:
    """Contradictions of one's own copies pass."""
    with _flaws(election, introducing, contradictions_max=11):
        yield


@mutant
def anybody_may_refer() -> AbstractContextManager[None]:
    """A referral counts from whom was not asked (P21)."""
    handle = PeerElection.handle_referral

    def open_to_all(self: PeerElection, referral: PeerReferral) -> Any:
        channel = self.channel(referral.ticket)
        return handle(self, referral if channel is None else replace(referral, sender=channel.hop))

    return patched(PeerElection, "handle_referral", open_to_all)


# ------------------------------------------------------------------------------------------------ the course of elections


@mutant
def elections_never_end() -> AbstractContextManager[None]:
    """At the timeout nothing happens."""
    return patched(Own, "_give_up", lambda self, running: None)


@mutant
def the_alarm_is_late() -> AbstractContextManager[None]:
    """A node wakes long after something is due."""
    due_ms = Participant.due_ms
    return patched(Participant, "due_ms", lambda self: due_ms(self) + 5_000)


@mutant
def elections_about_void_blocks_go_on() -> AbstractContextManager[None]:
    """A blacklist ends none that runs."""
    return patched(Own, "abandon_void", lambda self: None)


@mutant
def governance_mode_holds_nothing() -> AbstractContextManager[None]:
    """Elections begin while it lasts."""
    step = Participant.step

    def deaf(self: Participant, input: Any, **given: Any) -> Any:
        return step(self, Tick() if isinstance(input, Governance) else input, **given)

    return patched(Participant, "step", deaf)


@mutant
def finished_tickets_are_forgotten_at_once() -> AbstractContextManager[None]:
    """A late answer is a stranger's (P16)."""
    return patched(Own, "_why_unknown", lambda self, ticket: Refusal.UNKNOWN_TICKET)


@mutant
def tickets_are_not_found_after_a_restart() -> AbstractContextManager[None]:
    """The index of tickets is of the running process alone (P22, P23)."""
    entered = Own.__init__

    def stale(self: Own, *args: Any) -> None:
        entered(self, *args)
        self._tickets = dict.fromkeys(self._tickets, 0)

    return patched(Own, "__init__", stale)


@mutant
def a_query_is_answered_as_often_as_it_comes() -> AbstractContextManager[None]:
    """Tickets are not remembered."""
    return patched(Responding, "_is_handled", lambda self, ticket: False)


@mutant
def the_proof_is_for_somebody_else() -> AbstractContextManager[None]:
    """It is not bound to who asked (P19)."""
    sound = responding.sound
    return patched(responding, "sound", lambda tokens, challenger, token: sound(tokens, challenger ^ 1, token))


# ------------------------------------------------------------------------------------------------ the list


@mutant
def the_list_has_no_end() -> AbstractContextManager[None]:
    """There is always room."""
    return patched(Roster, "room_for", lambda self, newcomer, now_ms: (True, None))


@mutant
def whom_a_void_block_elected_stays() -> AbstractContextManager[None]:
    """A blacklist moves nobody out of the list."""
    step = Roster.step
    return patched(Roster, "step", lambda self, peer, step_: step_ != "revoked" and step(self, peer, step_))


@mutant
def open_challenges_have_no_end() -> AbstractContextManager[None]:
    """What nobody answers is remembered for ever."""
    tick = Introducing.tick

    def hoarding(self: Introducing) -> None:
        known = dict(self._open)
        tick(self)
        self._open = known | self._open

    return patched(Introducing, "tick", hoarding)


# ------------------------------------------------------------------------------------------------ what is kept


def _unrecorded(number: int) -> AbstractContextManager[None]:
    """Rows of one kind are not in the journal."""
    moved = Mirror.moved

    def forgetful(self: Mirror, *args: Any) -> list[PeerRow]:
        return [row for row in moved(self, *args) if row.kind != number]

    return patched(Mirror, "moved", forgetful)


@mutant
def void_blocks_are_not_recorded() -> AbstractContextManager[None]:
    """A restart forgets what is blacklisted (P23)."""
    return _unrecorded(1)


@mutant
def peers_are_not_recorded() -> AbstractContextManager[None]:
    """A restart forgets the list (P23)."""
    return _unrecorded(2)


@mutant
def elections_are_not_recorded() -> AbstractContextManager[None]:
    """A restart forgets what runs (P23)."""
    return _unrecorded(3)


@mutant
def challenges_are_not_recorded() -> AbstractContextManager[None]:
    """A restart forgets whom it has invited (P23)."""
    return _unrecorded(4)


@mutant
def finished_tickets_are_not_recorded() -> AbstractContextManager[None]:
    """A restart forgets its last elections (P16, P23)."""
    return _unrecorded(5)


@mutant
def handled_tickets_are_not_recorded() -> AbstractContextManager[None]:
    """A restart forgets what it has answered (P23)."""
    return _unrecorded(6)


@mutant
def a_ticket_that_comes_again_is_kept_for_its_first_time() -> AbstractContextManager[None]:
    """What is forgotten and comes again in one step has its old row (seeds 13 and 21 of before found that)."""
    note = Mirror._note_tickets

    def stale(self: Mirror, rows: list[PeerRow], number: int, now: Mapping[int, int]) -> None:
        known = self._tickets[number]
        note(self, rows, number, {ticket: known.get(ticket, until_ms) for ticket, until_ms in now.items()})

    return patched(Mirror, "_note_tickets", stale)


@mutant
@contextmanager
def what_was_refused_is_kept_in_memory() -> Iterator[None]:
    """The participant goes on from a step that was not recorded."""
    challenge, step_of = PeerElections._challenge, kind.step_of

    def kept(self: PeerElections, *args: Any) -> Any:
        decided = challenge(self, *args)
        if isinstance(decided, Rejection):
            self._present = present[0]
        return decided

    present: list[Any] = [None]
    entered = PeerElections._entered

    def enter(self: PeerElections, view: Any, context: Any) -> Any:
        if self._present is not None:
            self._present.step = step_of(view)
        present[0] = entered(self, view, context)
        return present[0]

    with patched(PeerElections, "_challenge", kept), patched(PeerElections, "_entered", enter):
        yield


@mutant
def channels_are_counted_twice() -> AbstractContextManager[None]:
    """A figure is not what the journal says."""
    apply = Measures.apply

    def twice(self: Measures, fact: PeerEvent) -> None:
        apply(self, fact)
        if isinstance(fact, PeerChannelOpened):
            apply(self, fact)

    return patched(Measures, "apply", twice)
