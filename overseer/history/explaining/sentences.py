"""Recorded events in a sentence each; one without a sentence of its own is told by its name."""

from messages import chain_api, chain_events, consensus_journal, consensus_manager, dispute_conclusion, gateways, votes_db, votes_db_journal
from messages.message import Message
from messages.polkadot import DisputeRef
from overseer.history.reasons import short

__all__ = ["counted", "of_dispute", "sentence"]

_BLOCK_KEY = chain_events.BLOCK_KEY_BYTES


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def of_dispute(session: int, candidate: bytes) -> str:
    return f"the dispute of {short(candidate)} in session {session}"


def sentence(event: Message) -> str:
    """What the event says happened."""
    for told in (_of_votes, _of_conclusions, _of_chain, _of_groups):
        text = told(event)
        if text:
            return text
    return event.spec.name.replace("_", " ")


def _of_votes(event: Message) -> str:
    match event:
        case votes_db_journal.CandidateOpened():
            return f"candidate {short(event.candidate)} is voted on in session {event.session}"
        case votes_db_journal.VotesImported():
            return f"{counted(len(event.votes.validators), 'vote')} in {of_dispute(event.session, event.candidate)}"
        case votes_db_journal.DisputeDetected():
            return f"{of_dispute(event.session, event.candidate)} begins: both sides have voted"
        case votes_db_journal.ChallengeRaised():
            return f"more than f validators are against in {of_dispute(event.session, event.candidate)}"
        case votes_db_journal.ChallengeEnded():
            return f"{of_dispute(event.session, event.candidate)} is no challenge any more"
        case votes_db_journal.DisputeResolved():
            return f"{of_dispute(event.session, event.candidate)} is decided {'for' if event.valid else 'against'} the candidate"
        case votes_db_journal.TransactionsIssued():
            rewards, slashes = len(event.rewards.validators), len(event.slashes.validators)
            issued = f"{counted(rewards, 'reward')} and {slashes} {'slash' if slashes == 1 else 'slashes'}"
            return f"{issued} for {of_dispute(event.session, event.candidate)}"
        case votes_db.DisputeStatusChanged():
            return f"{of_dispute(event.session, event.candidate)} is {event.status.value}"
        case votes_db.DoubleVoteSeen():
            return f"validator {event.validator} voted both ways in {of_dispute(event.session, event.candidate)}"
        case votes_db_journal.GossipHeld():
            return f"another node's word of the dispute of {short(event.dispute.candidate_hash)} is kept until its session begins"
        case votes_db_journal.GossipReleased():
            return f"{of_dispute(event.session, event.candidate)} was waiting for its session"
        case _:
            return ""


def _of_conclusions(event: Message) -> str:
    match event:
        case dispute_conclusion.DetectionRecorded():
            return f"{of_dispute(event.session, event.candidate)} is followed"
        case dispute_conclusion.ResolutionRecorded():
            return (
                f"{of_dispute(event.session, event.candidate)} is heard to be decided {'for' if event.valid else 'against'} the candidate"
            )
        case dispute_conclusion.RevertAsked():
            why = f"as {of_dispute(event.session, event.candidate)} is challenged"
            return f"the chain is asked to stop building on {_blocks(event.blocks)}, {why}"
        case dispute_conclusion.ChallengeLiftRecorded():
            return (
                f"the chain may build on {_blocks(event.blocks)} again: {of_dispute(event.session, event.candidate)} went for the candidate"
            )
        case dispute_conclusion.DescendantsAsked():
            return f"the descendants of {_blocks(event.blocks)} are asked for"
        case dispute_conclusion.DescendantsPageRecorded():
            return f"{short(event.block)} is told to have {counted(len(event.hashes), 'descendant')}"
        case dispute_conclusion.DescendantsSeen():
            return f"{short(event.block)} has {counted(event.count, 'descendant')} in all"
        case dispute_conclusion.BlacklistRequested():
            why = f"for {of_dispute(event.session, event.candidate)}"
            return f"the chain is asked to blacklist {_blocks(event.roots)} with all descendants, {why}"
        case dispute_conclusion.BlacklistSeen():
            return (
                f"{_blocks(event.blocks)} are on the blacklist" if len(event.blocks) > 1 else f"{_blocks(event.blocks)} is on the blacklist"
            )
        case dispute_conclusion.ConclusionConcluded():
            outcome = "nothing is blacklisted" if event.valid else "its blocks are blacklisted"
            return f"{of_dispute(event.session, event.candidate)} is concluded: {outcome}"
        case dispute_conclusion.ConclusionOpened():
            return f"what follows from {of_dispute(event.session, event.candidate)} is recorded"
        case dispute_conclusion.InclusionsRecorded():
            return f"block {event.number} includes {counted(len(event.candidates), 'candidate')}"
        case _:
            return ""


def _of_chain(event: Message) -> str:
    match event:
        case chain_events.BlockRecorded(block=block):
            return f"block {block.number} {short(block.hash)} joined the tree"
        case chain_events.OrphanHeld(block=block):
            return f"block {block.number} {short(block.hash)} waits for its parent"
        case chain_events.BestChainMoved():
            left, joined = len(event.reverted) // _BLOCK_KEY, len(event.applied) // _BLOCK_KEY
            best = f"block {event.best.number} {short(event.best.hash)} is the best"
            return f"{best}: {counted(left, 'block')} left the best chain, {joined} joined it"
        case chain_events.FinalityMoved():
            return f"block {event.block.number} {short(event.block.hash)} is final"
        case chain_events.BlacklistRecorded():
            roots = _blocks([each.hash for each in event.convictions])
            return f"{roots} convicted, with all that descends from there, for {_ref(event.cause)}"
        case chain_events.BlocksMarked():
            return (
                f"{counted(sum(len(run.keys) for run in event.runs) // _BLOCK_KEY, 'block')} marked as blacklisted for {_ref(event.cause)}"
            )
        case chain_api.BlocksReverted():
            return f"nothing is built on {_blocks(event.blocks)}, for {_ref(event.cause)}"
        case chain_api.RevertLifted():
            return f"{_blocks(event.blocks)} may be built on again, for {_ref(event.cause)}"
        case chain_events.DescendantsSought():
            return f"the descendants of {short(event.block)} are looked for"
        case chain_events.DescendantsTold():
            return f"{short(event.block)} has {counted(len(event.hashes) // 32, 'descendant')}"
        case chain_events.TransactionsSubmitted():
            return f"{counted(len(event.pooled), 'transaction')} pooled"
        case chain_events.GroupRecorded():
            return f"a group transaction in {short(event.block)} is {event.verdict.value}"
        case chain_events.GovernanceExited():
            return f"governance mode {event.entry} ends by {event.mode.value}"
        case _:
            return ""


def _of_groups(event: Message) -> str:
    match event:
        case consensus_journal.AttemptOpened(attempt=attempt):
            round = f", round {attempt.round}" if attempt.round else ""
            at = f"due at block {attempt.due}, begun {attempt.delay} later" if attempt.delay else f"due at block {attempt.due}"
            return f"an attempt at electing group {event.epoch} begins: {at}{round}, {counted(len(event.members), 'member')}"
        case consensus_journal.GroupAccepted():
            return f"block {event.number} {short(event.block)} accepted the group of epoch {event.epoch}"
        case consensus_journal.GroupRefused():
            return f"block {short(event.block)} has a group transaction that is refused: {event.error}"
        case consensus_journal.HeadMoved():
            return f"the best chain moved: {counted(len(event.reverted), 'block')} left it, {len(event.applied)} joined it"
        case consensus_journal.Spoken():
            return f"this node says {event.name}"
        case consensus_journal.BlockSeen():
            return f"block {event.number} {short(event.hash)} is seen"
        case consensus_manager.GroupTransaction():
            return "a group is complete"
        case gateways.RoundRevoked():
            return f"round {event.round} is revoked"
        case _:
            return ""


def _ref(cause: DisputeRef) -> str:
    return of_dispute(cause.session, cause.candidate)


def _blocks(hashes: list[bytes]) -> str:
    if len(hashes) == 1:
        return f"block {short(hashes[0])}"
    shown = ", ".join(short(each) for each in hashes[:3])
    return f"blocks {shown}" + (f" and {len(hashes) - 3} more" if len(hashes) > 3 else "")
