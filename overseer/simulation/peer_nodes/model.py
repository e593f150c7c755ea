"""What one honest node's part in peer elections must be, by its journal: a model that says of every input what must have followed.

What is left to chance (whom to ask, about which token) it takes from the journal; all else follows from what the node heard.
"""

from collections.abc import Sequence

from messages.chain_api import GovernanceModeLeft
from messages.codec import decode
from messages.message import CATALOG, Kind, Message
from messages.peer_queries import ChallengePeers, Peers, PeersReport
from messages.peers import (
    PeerAccept,
    PeerAdapted,
    PeerAnswer,
    PeerAnswerTaken,
    PeerChannelOpened,
    PeerConfirm,
    PeerElectionEnd,
    PeerElectionEnded,
    PeerElectionStarted,
    PeerInvite,
    PeerMoved,
    PeerPurpose,
    PeerQuery,
    PeerQueryHandled,
    PeerReferral,
    PeerSaid,
    PeerSplitSeen,
    PeerStateMoved,
    PeerTrafficRefused,
    TokensDropped,
    TokensHeld,
)
from messages.signals import BlocksBlacklisted, GovernanceMode, GovernanceState, SessionChange
from messages.subjects import parse
from overseer.simulation.checks_course import Archive, Input, ask, must
from overseer.simulation.peer_nodes.bounds import Rows, Tally, Tickets
from overseer.simulation.peer_nodes.cast import Play
from overseer.simulation.peer_nodes.course import Channel, Election
from overseer.simulation.peer_nodes.holdings import universe_of
from overseer.simulation.peer_nodes.listing import Listing
from overseer.simulation.peer_nodes.proofs import Held, answer_sealed, flaw, query_sealed, referral_sealed
from overseer.simulation.scenario import AtRest
from subsystems.elections.peers.config import PeerMode

__all__ = ["PeersModel"]

_TRAFFIC = (PeerQuery, PeerAnswer, PeerReferral, PeerInvite, PeerAccept, PeerConfirm)
# Refusals of what a node wants itself.
_OWN = frozenset({"off", "governance_mode", "void_token", "too_many_elections", "no_token"})
_VOID_MAX = 4_096
_TIMER = "peers"
# A block is named by the first bytes of its hash.
_NAME_BYTES = 8


class PeersModel:
    """`forgetful`: nodes whose stores were set back; they may have forgotten what they answered."""

    def __init__(self, play: Play, node: str, archive: Archive, forgetful: set[str]) -> None:
        self._play, self._node, self._archive, self._forgetful = play, node, archive, forgetful
        self.me = play.ids[node]
        self.rules = play.config(node)
        universe = universe_of(play.network.seed)
        self.held = Held(play.shares[node], universe.ring, universe.suffixes)
        self.running: dict[int, Election] = {}
        self.elected = 0
        self._names = {peer: name for name, peer in play.ids.items()}
        self._empty_handed = {play.ids[each] for each in play.network.nodes if play.is_empty_handed(each)}
        self._void: list[int] = []
        self._governed = False
        self._threshold = self.rules.election.consensus_threshold
        self._finished = Tickets(self.rules.finished_max)
        # One more is forgotten before the next is taken.
        self._handled = Tickets(self.rules.handled_max - 1)
        self._listing = Listing(self.held, self.me, self.rules)
        self._rows, self._tally = Rows(self.rules), Tally()
        self._first_ms, self._sessions, self._timely = 0, 0, 0
        # When it wakes by itself.
        self._alarm_ms: int | None = None
        # Of the input at hand.
        self._now = 0
        self._message: Message | None = None
        self._heard: Message | None = None
        self._sender = 0
        self._reacted: list[str] = []
        self._said: list[Message] = []

    # ------------------------------------------------------------------------------------------------ inputs

    def take(self, given: Input) -> None:
        if given.record.result.status == "rejected":
            return must("commands", not given.events, f"refused with {given.code}, and recorded {given.events}")
        self._now, self._message, self._reacted, self._said = given.now_ms, given.message, [], []
        self._first_ms = self._first_ms or self._now
        self._hear(given)
        self._see(given.message)
        tokens = [event for event in given.events if isinstance(event, TokensHeld | TokensDropped)]
        for event in given.events:
            self._tally.count(event)
            self._event(event)
        if self._heard is not None:
            self._reacts()
        elif isinstance(given.message, _TRAFFIC):
            must("others' traffic", not given.events, f"was not for this node, but {given.events}")
        if isinstance(given.message, ChallengePeers):
            self._challenged(given.message, given.events)
        # A decision is about what was held before.
        for event in tokens:
            self._hold(event)
        self._alarm_ms = next((timer.at_ms for timer in reversed(given.record.timers) if timer.key == _TIMER), self._alarm_ms)
        if any(isinstance(event, PeerStateMoved) for event in given.events):
            self._stepped()
        if isinstance(given.message, BlocksBlacklisted):
            self._listing.voided(self._void)
            left = [token for token in self.running if self.held.block(token) in self._void]
            must("elections", not left, f"elections about {left}, of a blacklisted block, go on")
        return None

    def _hear(self, given: Input) -> None:
        """What came from a peer, and from whom."""
        self._heard = None
        message = given.message
        if not isinstance(message, _TRAFFIC) or message.to != self.me:
            return
        stored = self._archive.original(given.record.cause.identity)
        assert stored is not None
        self._sender = self._play.ids[parse(stored.subject).node]
        self._heard = message

    def _see(self, message: Message | None) -> None:
        """The chain."""
        match message:
            case GovernanceMode():
                self._governed = message.state is GovernanceState.ENTERED
            case BlocksBlacklisted():
                self._voided(message.hashes, lifted=False)
            case GovernanceModeLeft():
                self._voided(message.roots, lifted=True)
            case SessionChange():
                self._sessions += 1
            case _:
                pass

    def _voided(self, hashes: Sequence[bytes], *, lifted: bool) -> None:
        numbers = [int.from_bytes(block[:_NAME_BYTES], "little") for block in hashes]
        kept = [number for number in self._void if number not in numbers]
        self._void = kept if lifted else [*kept, *numbers][-_VOID_MAX:]
        for election in self.running.values():
            election.void_moved = True

    def _hold(self, event: TokensHeld | TokensDropped) -> None:
        if isinstance(event, TokensHeld):
            self.held.own.update({mapping.id: mapping.block for mapping in event.tokens})
        else:
            for token in event.tokens:
                del self.held.own[token]

    def _challenged(self, message: ChallengePeers, events: Sequence[Message]) -> None:
        """Accepted: an election about that token runs, or has been given up at once."""
        may = self.rules.mode is not PeerMode.OFF and not (self._governed and not self.running)
        must("commands", may, "took a challenge though it is off or governed")
        ended = any(isinstance(event, PeerElectionEnded) and event.token == message.token for event in events)
        must("commands", message.token is None or message.token in self.running or ended, f"no election about {message.token} runs")

    # ------------------------------------------------------------------------------------------------ events

    def _event(self, event: Message) -> None:
        match event:
            case PeerElectionStarted():
                self._started(event)
            case PeerChannelOpened():
                self._opened(event)
            case PeerAnswerTaken():
                self._judged("taken", event.peer, event.ticket)
            case PeerTrafficRefused(code=code) if code not in _OWN:
                self._judged(code, event.peer, event.ticket)
            case PeerElectionEnded():
                self._ended(event)
            case PeerSplitSeen():
                self.running[event.token].split = True
            case PeerMoved():
                must("forgers", not (event.after == "connected" and event.peer in self._empty_handed), f"{event.peer} holds nothing")
                self._listing.moved(event)
            case PeerQueryHandled():
                self._judged(event.course, event.requester, event.ticket)
            case PeerAdapted():
                must("threshold", self.rules.adaptive_threshold and 7 <= event.after <= 9, f"adapted to {event.after}")
                self._threshold = event.after
            case PeerSaid():
                self._says(event)
            case PeerStateMoved():
                broken = self._rows.moved(event.rows)
                must("bounds", not broken, broken)
            case _:
                pass

    def _started(self, event: PeerElectionStarted) -> None:
        must("starts", self.rules.mode is not PeerMode.OFF and not self._governed, "an election began while it is off or governed")
        must("starts", event.token not in self.running, f"a second election about {event.token}")
        must("starts", len(self.running) < self.rules.elections_max, f"{len(self.running) + 1} elections at once")
        must("starts", self.held.block(event.token) not in self._void, f"{event.token} is of a blacklisted block")
        asked = isinstance(self._message, ChallengePeers)
        if event.purpose is PeerPurpose.ASKED:
            must("starts", asked, "nobody asked for it")
        else:
            self._timely += 1
            most = (self._now - self._first_ms) // self.rules.interval_ms + 2 + self._sessions
            must("starts", self._timely <= most, f"{self._timely} elections in {self._now - self._first_ms} ms")
        self.running[event.token] = Election(
            token=event.token, me=self.me, started_ms=self._now, threshold=self._threshold, rules=self.rules.election
        )

    def _opened(self, event: PeerChannelOpened) -> None:
        election = self.running[event.token]
        referrals = 0
        if event.referred:
            referrals = self._referred(event)
        must("channels", event.hop not in (0, self.me) and event.hop not in election.asked, f"{event.hop} is asked again")
        must("channels", len(election.channels) < self.rules.election.max_channels, f"{len(election.channels) + 1} channels")
        must("channels", self._election_of(event.ticket) is None and event.ticket != 0, f"ticket {event.ticket} is not fresh")
        election.channels[event.ticket] = Channel(hop=event.hop, referrals=referrals)
        election.asked.add(event.hop)

    def _referred(self, event: PeerChannelOpened) -> int:
        """How many referrals led there."""
        heard = self._heard
        must("referrals", isinstance(heard, PeerReferral), "followed a referral that nobody gave")
        assert isinstance(heard, PeerReferral)
        election = self._election_of(heard.ticket)
        must("referrals", election is self.running[event.token], "another election's referral")
        assert election is not None
        referrals = election.channels[heard.ticket].referrals + 1
        expected = self._expected_of_referral(heard, "redirected")
        must("referrals", expected == ("redirected", event.hop), f"went to {event.hop}, must be {expected}")
        self._reacted.append("redirected")
        return referrals

    def _ended(self, event: PeerElectionEnded) -> None:
        election = self.running.pop(event.token, None)
        must("elections", election is not None, f"no election about {event.token} ran")
        assert election is not None
        age, responses, outcome = self._now - election.started_ms, election.responses(), election.outcome(set(self._void))
        told = (event.took_ms, event.channels, event.responses, event.split)
        must("elections", told == (age, len(election.channels), len(responses), election.split), f"ended as {told}")
        for ticket in election.channels:
            self._finished.note(ticket, self._now + self.rules.finished_ttl_ms)
        match event.end:
            case PeerElectionEnd.ELECTED:
                self.elected += 1
                enough = min(self.rules.min_collection_ms, self.rules.timeout_ms)
                must("elections", age >= enough, f"elected after {age} ms")
                must("elections", outcome.is_majority, f"{len(event.cluster)} of {outcome.responders} are no majority that agrees")
                must(
                    "elections",
                    tuple(sorted(event.cluster)) in outcome.groups,
                    f"{event.cluster} is not the group that agrees: {outcome.groups}",
                )
                nearest = election.nearest(tuple(event.cluster))
                must("elections", event.winner == nearest, f"{event.winner} was elected, {nearest} is the nearest")
                must("elections", self.held.block(event.token) not in self._void or election.void_moved, "elected by a blacklisted block")
                must("forgers", not self._empty_handed & {*event.cluster}, "who holds nothing was elected")
                self._listing.won(event.winner, self.held.block(event.token))
            case PeerElectionEnd.ABANDONED:
                why = self.held.block(event.token) in self._void or not election.channels
                must("elections", why, "abandoned without a reason")
            case _:
                must("elections", age >= self.rules.timeout_ms, f"given up after {age} ms")
                must("elections", not outcome.is_majority or election.void_moved, f"given up, though {outcome.groups} agree")

    # ------------------------------------------------------------------------------------------------ what it says

    def _says(self, event: PeerSaid) -> None:
        spec = CATALOG.find(Kind.NETWORK, "elections", event.name)
        assert spec is not None
        message = decode(spec, event.body)
        self._said.append(message)
        match message:
            case PeerAnswer():
                self._proves(message)
            case PeerQuery():
                mine = message.requester == self.me
                must(
                    "queries", query_sealed(message) and message.sender == self.me != message.to, "a query that is not sealed, or to itself"
                )
                passed = isinstance(self._heard, PeerQuery) and message.ttl < self._heard.ttl
                must("queries", mine or passed, "passes on what nobody asked, or without an end")
            case PeerInvite():
                self._listing.challenges(message.to, message.token, message.ticket, self._now)
            case PeerAccept(proof=proof):
                self._proves(proof)
                if message.ticket:
                    self._listing.challenges(proof.requester, message.token, message.ticket, self._now)
            case PeerConfirm(proof=proof):
                self._proves(proof)
            case _:
                pass

    def _proves(self, answer: PeerAnswer) -> None:
        """What is held is proven as it is, to whoever asked."""
        proof = self.held.sound_proof(answer.requester, answer.answer.id)
        right = proof == list(answer.signature) and answer.answer.block == self.held.block(answer.answer.id)
        must("proofs", right and answer_sealed(answer), f"says {answer}, and holds {proof}")
        heard = self._heard
        asked = (
            (isinstance(heard, PeerQuery) and heard.requester == answer.requester)
            or (isinstance(heard, PeerInvite) and heard.sender == answer.requester)
            or (isinstance(heard, PeerAccept) and heard.proof.responder == answer.requester)
        )
        must("proofs", asked and heard is not None and getattr(heard, "ticket", 0) == answer.ticket, "answers what nobody asked")

    # ------------------------------------------------------------------------------------------------ what it hears

    def _election_of(self, ticket: int) -> Election | None:
        return next((election for election in self.running.values() if ticket in election.channels), None)

    def _why_unknown(self, ticket: int, found: str) -> str:
        kept = self._finished.keeps(ticket, self._now)
        if kept is None and found in ("finished_election", "unknown_ticket"):
            return found
        return "finished_election" if kept else "unknown_ticket"

    def _judged(self, found: str, peer: int, ticket: int) -> None:
        """It says what became of what it heard. Introductions are looked at when all is known."""
        heard = self._heard
        self._reacted.append(found)
        match heard:
            case PeerAnswer():
                expected = self._expected_of_answer(heard, found)
            case PeerReferral():
                expected = self._expected_of_referral(heard, found)[0]
            case PeerQuery():
                expected = self._expected_of_query(heard, found)
                if expected == "":
                    must("queries", found in ("forward", "refer", "drop"), f"{found}, and cannot prove it")
                    return
            case PeerInvite() | PeerAccept() | PeerConfirm():
                return
            case _:
                expected = "nothing"
        must("reactions", found == expected, f"{type(heard).__name__} of {self._sender}, ticket {ticket}: {found}, must be {expected}")

    def _expected_of_answer(self, answer: PeerAnswer, found: str) -> str:
        if answer.responder != self._sender:
            return "not_its_own"
        election = self._election_of(answer.ticket)
        if election is None:
            return self._why_unknown(answer.ticket, found)
        verdict, offence = election.judge(answer, answer_sealed(answer), lambda: self.flaw(answer))
        if offence:
            self._is_blocked(answer.responder, offence)
        return verdict

    def flaw(self, answer: PeerAnswer) -> str:
        rules = self.rules.election
        return flaw(
            self.held, self.me, answer.answer, answer.signature, contradictions=rules.contradictions_max, familiar=rules.familiar_min
        )

    def _is_blocked(self, peer: int, offence: str) -> None:
        """An honest peer is caught only where tokens have moved meanwhile, or its store was set back and it answers once more."""
        name = self._names[peer]
        explained = name in self._play.liars or (offence == "duplicate" and name in self._forgetful) or offence == "contradicted"
        must("bystanders", explained, f"{name} is blocked for {offence}")

    def _expected_of_referral(self, referral: PeerReferral, found: str) -> tuple[str, int]:
        if referral.sender != self._sender:
            return "not_its_own", 0
        election = self._election_of(referral.ticket)
        if election is None:
            return self._why_unknown(referral.ticket, found), 0
        return election.refer(referral) if referral_sealed(referral) else ("referral_forged", 0)

    def _expected_of_query(self, query: PeerQuery, found: str) -> str:
        """ "" where something else than an answer is right."""
        if query.sender != self._sender:
            return "not_its_own"
        if query.requester == self.me:
            return "own_query"
        self._handled.forget(self._now)
        kept = self._handled.keeps(query.ticket, self._now)
        if kept or (kept is None and found == "query_repeated"):
            return "query_repeated"
        if not query_sealed(query):
            return "query_forged"
        self._handled.note(query.ticket, self._now + self.rules.handled_ttl_ms)
        if self.held.sound_proof(query.requester, query.token) is None:
            return ""
        must("queries", any(isinstance(said, PeerAnswer) for said in self._said), "holds what was asked for, and does not say so")
        return "reply"

    def _reacts(self) -> None:
        """To everything there is one reaction; to a step of an introduction what the listing says."""
        heard, name = self._heard, type(self._heard).__name__
        if isinstance(heard, PeerInvite | PeerAccept | PeerConfirm):
            author = heard.sender if isinstance(heard, PeerInvite) else heard.proof.responder
            if author != self._sender:
                expected = ["not_its_own"]
            elif self.rules.mode in (PeerMode.OFF, PeerMode.OBSERVE):
                expected = ["no_list_here"]
            else:
                return self._listing.heard(heard, self._now, self._reacted, self._said, self.flaw)
            return must("introductions", self._reacted == expected, f"{name}: {self._reacted}, must be {expected}")
        return must("reactions", len(self._reacted) == 1, f"{name}, ticket {getattr(heard, 'ticket', 0)}: {self._reacted}")

    # ------------------------------------------------------------------------------------------------ after a step

    def _stepped(self) -> None:
        """What is due is done, and nothing is kept beyond its time."""
        collected = min(self.rules.min_collection_ms, self.rules.timeout_ms)
        void = set(self._void)
        for election in self.running.values():
            age = self._now - election.started_ms
            must("elections", age < self.rules.timeout_ms, f"the election about {election.token} still runs after {age} ms")
            due_ms = election.started_ms + (collected if age < collected else self.rules.timeout_ms)
            must("elections", self._alarm_ms is not None and self._alarm_ms <= due_ms, f"wakes at {self._alarm_ms}, is due at {due_ms}")
            if age >= collected and not election.void_moved:
                outcome = election.outcome(void)
                must("elections", not outcome.is_majority, f"{outcome.groups} agree about {election.token}, and nobody is elected")
        self._finished.forget(self._now)
        self._listing.stepped(self._now)

    def at_rest(self, rest: AtRest, node: str) -> None:
        report = ask("peers", rest, node, Peers(), PeersReport)
        wrong = self._tally.disagrees(report.measures)
        must("measures", not wrong, wrong)
        must("at rest", report.held == self._governed, f"governance mode is held: {report.held}")
        must("at rest", {each.token for each in report.running} == set(self.running), f"{report.running} run, must be {set(self.running)}")
        for told in report.running:
            election = self.running[told.token]
            responded = sum(channel.answer is not None for channel in election.channels.values())
            figures = (told.started_ms, told.channels, told.responses)
            must("at rest", figures == (election.started_ms, len(election.channels), responded), f"tells {told}")
        self._listing.at_rest(report)
