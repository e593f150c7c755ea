"""A node's own elections: started, asked for, split, elected, abandoned; each comes to an end."""

from collections.abc import Mapping

import msgspec

from messages.peers import (
    PeerAdapted,
    PeerAnswer,
    PeerAnswerTaken,
    PeerChannelOpened,
    PeerElectionEnd,
    PeerElectionEnded,
    PeerElectionStarted,
    PeerPassedOver,
    PeerPurpose,
    PeerQuery,
    PeerReferral,
    PeerSplitAlert,
    PeerSplitSeen,
)
from subsystems.elections.peers.adapting import adapted_interval, adapted_threshold
from subsystems.elections.peers.choosing import first_hops
from subsystems.elections.peers.clusters import Cluster, NoConsensus, Outcome, Single, SplitBrain
from subsystems.elections.peers.election import Channel, ChannelState, PeerElection, Phase, Redirected, Refusal, Stored
from subsystems.elections.peers.introducing import Introducing
from subsystems.elections.peers.local import Local, Running
from subsystems.elections.peers.roster import Peer, Step
from subsystems.elections.peers.traffic import query_bytes, referral_bytes

__all__ = ["Own"]


class Own:
    """Running elections by token, their tickets, and the tickets of those that ended of late."""

    def __init__(self, local: Local, introducing: Introducing) -> None:
        self._local = local
        self._introducing = introducing
        self._running = {each.election.token: each for each in local.state.elections}
        self._elections = {token: self._restored(each) for token, each in self._running.items()}
        # Ticket to token: one look-up, however many elections and channels there are (P22).
        self._tickets = {number: token for token, election in self._elections.items() for number in election.tickets}
        self._finished = {each.ticket: each.until_ms for each in local.state.finished}

    def _restored(self, running: Running) -> PeerElection:
        local = self._local
        rules = msgspec.structs.replace(local.config.election, consensus_threshold=running.threshold)
        return PeerElection.restored(running.election, tokens=local.tokens, authentic=local.authentic, config=rules)

    # ------------------------------------------------------------------------------------------------ reading

    def running(self) -> list[Running]:
        return list(self._running.values())

    @property
    def finished(self) -> Mapping[int, int]:
        """Tickets that are known for a while, the oldest first, and until when."""
        return self._finished

    def election(self, token: int) -> PeerElection | None:
        return self._elections.get(token)

    def token_of(self, ticket: int) -> int | None:
        return self._tickets.get(ticket)

    def due_ms(self) -> list[int]:
        config = self._local.config
        due: list[int] = []
        for each in self._running.values():
            due.append(each.started_ms + (config.timeout_ms if each.election.collected else self._collection_ms))
            if each.again_ms:
                due.append(each.again_ms)
        return due

    @property
    def _collection_ms(self) -> int:
        return min(self._local.config.min_collection_ms, self._local.config.timeout_ms)

    # ------------------------------------------------------------------------------------------------ beginning

    def start(self, token: int, purpose: PeerPurpose, hop: int = 0) -> None:
        """Challenge the network with `token`; nothing where that is under way. `hop`: a peer to be asked in any case."""
        local = self._local
        if token in self._running:
            return None
        if local.state.held:
            return local.refuse("governance_mode", 0, 0)
        if local.tokens.block_of(token) in local.void:
            return local.refuse("void_token", 0, 0)
        if len(self._running) >= local.config.elections_max:
            return local.refuse("too_many_elections", 0, 0)
        election = PeerElection(
            requester=local.self_id, token=token, secret=local.draw.secret(token), tokens=local.tokens, authentic=local.authentic
        )
        threshold = local.state.adaptation.threshold
        running = Running(election=election.state, purpose=purpose, started_ms=local.now_ms, threshold=threshold)
        self._running[token] = running
        self._elections[token] = self._restored(running)
        local.report(PeerElectionStarted(at_ms=local.now_ms, token=token, purpose=purpose))
        self._ask(running, local.config.initial_channels, hop)
        if self._elections[token].channel_count == 0:
            self._end(running, PeerElectionEnd.ABANDONED, NoConsensus())
        return None

    def _ask(self, running: Running, count: int, hop: int = 0) -> None:
        """Open up to `count` channels to peers that do not take part yet."""
        local, election = self._local, self._elections[running.election.token]
        running.asked_ms = local.now_ms
        candidates = [peer for peer in local.roster.peers if peer.id != hop and not election.is_participating(peer.id)]
        wanted = [hop] if hop else []
        hops = wanted + first_hops(candidates, count - len(wanted), local.state.recent, local.draw)
        for each in hops:
            ticket = election.create_channel(each)
            if isinstance(ticket, int):
                self._query(running.election.token, ticket, each, referred=False)
        recent = [peer for peer in local.state.recent if peer not in hops] + hops
        local.state.recent = recent[-local.config.recent_hops :] if local.config.recent_hops else []

    def _query(self, token: int, ticket: int, hop: int, *, referred: bool) -> None:
        local = self._local
        self._tickets[ticket] = token
        # Whom a referral names is known when it answers: there may be nobody of that name.
        peer = local.roster.get(hop) if referred else local.roster.identify(hop, local.now_ms)
        if peer is not None:
            peer.asked += 1
        seal = local.seal(query_bytes(token, local.self_id, ticket))
        me, ttl = local.self_id, local.config.ttl
        query = PeerQuery(to=hop, token=token, requester=me, ticket=ticket, ttl=ttl, hop=hop, sender=me, seal=seal)
        local.send(query)
        local.report(PeerChannelOpened(at_ms=local.now_ms, token=token, ticket=ticket, hop=hop, referred=referred))

    # ------------------------------------------------------------------------------------------------ what comes back

    def answered(self, answer: PeerAnswer) -> None:
        """Route an answer to its election, by its ticket."""
        local, token = self._local, self._tickets.get(answer.ticket)
        if token is None:
            return local.refuse(self._why_unknown(answer.ticket), answer.responder, answer.ticket)
        election = self._elections[token]
        before = election.blocked_peer_count
        taken = election.handle_answer(answer)
        if isinstance(taken, Stored):
            peer = local.roster.identify(answer.responder, local.now_ms)
            if peer is not None:
                peer.answered += 1
                peer.silent = 0
            self._credit(election, taken)
            local.report(PeerAnswerTaken(at_ms=local.now_ms, token=token, ticket=answer.ticket, peer=answer.responder))
        else:
            if election.blocked_peer_count > before:
                self._offended(answer.responder)
            local.refuse(taken.code, answer.responder, answer.ticket, "" if taken.flaw is None else taken.flaw)
        if election.phase is Phase.ELECTION:
            self._check(self._running[token])
        return None

    def _credit(self, election: PeerElection, taken: Stored) -> None:
        """Who was asked and passed the query on to whoever answered, or referred to it, did its part."""
        channel = election.channel(taken.ticket)
        for each in sorted({channel.first, channel.hop} - {taken.peer}) if channel is not None else ():
            hop = self._local.roster.get(each)
            if hop is not None:
                hop.answered += 1
                hop.silent = 0

    def _offended(self, peer: int) -> None:
        offender = self._local.roster.get(peer)
        if offender is not None:
            offender.offences += 1

    def _why_unknown(self, ticket: int) -> str:
        until_ms = self._finished.get(ticket)
        return "finished_election" if until_ms is not None and until_ms > self._local.now_ms else Refusal.UNKNOWN_TICKET

    def referred(self, referral: PeerReferral) -> None:
        """Follow a referral by the hop that was asked."""
        local, token = self._local, self._tickets.get(referral.ticket)
        if token is None:
            return local.refuse(self._why_unknown(referral.ticket), referral.sender, referral.ticket)
        if referral.requester != local.self_id or not local.authentic(referral.sender, referral_bytes(referral), referral.seal):
            return local.refuse("referral_forged", referral.sender, referral.ticket)
        election = self._elections[token]
        asked = election.channel(referral.ticket)
        followed = election.handle_referral(referral)
        if election.channel(referral.ticket) is None:
            del self._tickets[referral.ticket]
        if isinstance(followed, Redirected):
            return self._query(token, followed.ticket, followed.hop, referred=True)
        if followed.code is Refusal.NO_VIABLE_SUGGESTIONS and asked is not None:
            self._came_to_nothing(asked)
        return local.refuse(followed.code, referral.sender, referral.ticket)

    # ------------------------------------------------------------------------------------------------ progress

    def tick(self) -> None:
        """What is due: collections that are over, then elections whose time is up."""
        local, config = self._local, self._local.config
        for running in self.running():
            age_ms = local.now_ms - running.started_ms
            election = self._elections[running.election.token]
            if election.phase is Phase.COLLECTION and age_ms >= self._collection_ms:
                election.end_collection()
                self._check(running)
            elif 0 < running.again_ms <= local.now_ms:
                self._check(running)
            if running.election.result is None and age_ms >= config.timeout_ms:
                self._give_up(running)
        while self._finished:
            oldest = next(iter(self._finished))
            if self._finished[oldest] > local.now_ms and len(self._finished) <= config.finished_max:
                break
            del self._finished[oldest]

    def _check(self, running: Running) -> None:
        """Elect, or ask more peers where the answers are split."""
        local, config = self._local, self._local.config
        outcome = self._elections[running.election.token].check_for_winner(local.void)
        running.again_ms = 0
        if isinstance(outcome, Single):
            return self._end(running, PeerElectionEnd.ELECTED, outcome)
        if isinstance(outcome, SplitBrain):
            self._note_split(running)
            waited = local.now_ms - running.asked_ms >= config.split_patience_ms
            if (waited or not self._waits(running)) and local.now_ms - running.started_ms < config.timeout_ms:
                self._ask(running, config.split_channels)
            running.again_ms = local.now_ms + config.split_patience_ms
        return None

    def _waits(self, running: Running) -> bool:
        """Whether an answer may still come."""
        return any(channel.state is ChannelState.PENDING for channel in running.election.channels)

    def _note_split(self, running: Running) -> None:
        local = self._local
        if not running.split_seen:
            running.split_seen = True
            local.report(PeerSplitSeen(at_ms=local.now_ms, token=running.election.token))
            local.state.splits.times_ms.append(local.now_ms)
            self.watch_splits()

    def watch_splits(self) -> None:
        """Raise the alert, or clear it."""
        local = self._local
        raised = local.state.splits.turned(local.now_ms, local.config)
        if raised is not None:
            local.report(PeerSplitAlert(at_ms=local.now_ms, raised=raised, splits=len(local.state.splits.times_ms)))

    def _give_up(self, running: Running) -> None:
        outcome = self._elections[running.election.token].check_for_winner(self._local.void)
        self._end(running, PeerElectionEnd.SPLIT if isinstance(outcome, SplitBrain) else PeerElectionEnd.NO_CONSENSUS, outcome)

    def abandon_void(self) -> None:
        """Elections about a token whose block is blacklisted come to nothing."""
        for running in self.running():
            if self._local.tokens.block_of(running.election.token) in self._local.void:
                self._end(running, PeerElectionEnd.ABANDONED, NoConsensus())

    # ------------------------------------------------------------------------------------------------ ending

    def _end(self, running: Running, end: PeerElectionEnd, outcome: Outcome) -> None:
        local, token = self._local, running.election.token
        election = self._elections.pop(token)
        del self._running[token]
        election.complete(outcome)
        for ticket in election.tickets:
            del self._tickets[ticket]
            self._finished[ticket] = local.now_ms + local.config.finished_ttl_ms
        cluster = outcome.cluster if isinstance(outcome, Single) and end is PeerElectionEnd.ELECTED else None
        local.report(
            PeerElectionEnded(
                at_ms=local.now_ms,
                token=token,
                end=end,
                winner=0 if cluster is None else cluster.winner,
                took_ms=local.now_ms - running.started_ms,
                channels=election.channel_count,
                responses=election.valid_response_count,
                split=running.split_seen,
                cluster=[] if cluster is None else cluster.peers,
            )
        )
        if cluster is not None:
            self._elected(token, cluster)
        self._note_silence(election)
        self._adapt(elected=cluster is not None)

    def _note_silence(self, election: PeerElection) -> None:
        """Who was asked and said nothing. Where nobody answered, the fault may be one's own."""
        for channel in election.state.channels if election.valid_response_count else ():
            if channel.state is ChannelState.PENDING:
                self._came_to_nothing(channel)

    def _came_to_nothing(self, channel: Channel) -> None:
        """Who was asked first is to blame: for its own silence, or for whom it referred to."""
        local = self._local
        hop = local.roster.get(channel.first)
        if hop is not None:
            hop.silent += 1
            if hop.listed and hop.silent >= local.config.silent_max:
                local.move(hop, Step.EXPIRED)

    def _elected(self, token: int, cluster: Cluster) -> None:
        local = self._local
        for each in cluster.peers:
            peer = local.roster.identify(each, local.now_ms)
            if peer is not None:
                peer.agreed += 1
        winner = local.roster.identify(cluster.winner, local.now_ms)
        assert winner is not None, "no election takes its requester's answer, nor that of 0"
        winner.wins += 1
        winner.last_election_ms = local.now_ms
        winner.challenge_token = token
        winner.challenge_block = local.tokens.block_of(token) or 0
        if local.config.mode.keeps_list:
            self._list(winner)

    def _list(self, winner: Peer) -> None:
        """A known winner is verified, an unknown one invited; if there is no place, it stays one to ask (P17)."""
        local = self._local
        if winner.listed:
            winner.verified_ms = local.now_ms
            return local.move(winner, Step.ELECTED)
        room, leaves = local.roster.room_for(winner.id, local.now_ms)
        if not room:
            return local.report(PeerPassedOver(at_ms=local.now_ms, peer=winner.id))
        if leaves is not None:
            local.move(leaves, Step.EVICTED)
        winner.elected_ms = winner.verified_ms = winner.invited_ms = local.now_ms
        local.move(winner, Step.ELECTED)
        return self._introducing.asked(winner)

    def _adapt(self, *, elected: bool) -> None:
        local, now, config = self._local, self._local.state.adaptation, self._local.config
        now.ended += 1
        now.elected += elected
        now.turns += 1
        threshold, interval_ms = adapted_threshold(now, config), adapted_interval(now, config)
        if threshold != now.threshold:
            why = f"{now.elected} of {now.ended} elected"
            local.report(PeerAdapted(at_ms=local.now_ms, parameter="consensus_threshold", before=now.threshold, after=threshold, why=why))
            now.threshold = threshold
            now.ended = now.elected = 0
        elif now.ended >= config.adaptive_window:
            now.ended = now.elected = 0
        if interval_ms != now.interval_ms:
            why = f"{now.moves} moves in {now.turns} elections"
            local.report(PeerAdapted(at_ms=local.now_ms, parameter="interval_ms", before=now.interval_ms, after=interval_ms, why=why))
            now.interval_ms = interval_ms
        if now.turns >= config.adaptive_window:
            now.turns = now.moves = 0
