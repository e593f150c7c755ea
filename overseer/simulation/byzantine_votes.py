"""Malicious validators: what their keys can sign, and what they can do with the votes of others."""

from collections.abc import Sequence

import msgspec

from messages.codec import encode
from messages.polkadot import Vote, VoteKind
from messages.scale import commitments_hash
from messages.subjects import HEADER_ID, MessageId, headers_of
from messages.votes_db import Dispute as Gossip
from messages.votes_db import RegisterVote
from overseer.simulation.byzantine import EVIL_NODE, LIAR_NODE, MALLORY, Mischief, variant
from overseer.simulation.disputes_plan import Dispute
from overseer.simulation.disputes_votes import KEYS, VALID_KINDS, Ballot, candidate, signed, with_votes

__all__ = ["gossip"]

_INVALID = VoteKind.EXPLICIT_INVALID


@variant
def equivocating_voters(does: Mischief) -> None:
    """Vote for here and against there, on every dispute."""
    for about in does.plan.disputes:
        for voter in does.faulty:
            for kind in (does.random.choice(VALID_KINDS), _INVALID):
                does.ask(does.bundle_of(about, [(voter, kind)]))


@variant
def double_votes_in_one_bundle(does: Mischief) -> None:
    """Both sides, several kinds of one side, and one vote twice, in one message."""
    for about in does.plan.disputes:
        kinds = [_INVALID, *does.random.sample(VALID_KINDS, 3), _INVALID]
        ballots: list[Ballot] = [(voter, kind) for voter in does.faulty for kind in kinds]
        does.ask(does.bundle_of(about, ballots))


@variant
def forged_signatures(does: Mischief) -> None:
    """Votes of the honest with one bit flipped, or with another's signature, among good ones."""
    for about in does.plan.disputes:
        message = does.bundle_of(about, [(v, _INVALID) for v in range(does.plan.size)])
        votes = list(message.explicit_votes)
        for place in range(len(votes)):
            other = votes[(place + 1) % len(votes)].signature
            bit = does.random.randrange(512)
            flipped = bytearray(votes[place].signature)
            flipped[bit // 8] ^= 1 << bit % 8
            votes[place] = msgspec.structs.replace(votes[place], signature=does.random.choice((bytes(flipped), other, bytes(64))))
        does.ask(with_votes(message, votes))


@variant
def keys_outside_the_session(does: Mischief) -> None:
    """Well signed, by keys that are no validators' now, under the indices of those that are."""
    for about in does.plan.disputes:
        outside = [k for k in range(len(KEYS.keys)) if k not in does.plan.keys(about.session)]
        votes = [signed(does.random.choice(outside), v, _INVALID, about.candidate.number, about.session) for v in range(does.plan.size)]
        does.ask(with_votes(does.bundle_of(about, []), votes))


@variant
def indices_out_of_range(does: Mischief) -> None:
    about = does.dispute
    good = signed(does.plan.keys(about.session)[0], 0, _INVALID, about.candidate.number, about.session)
    for index in (does.plan.size, does.plan.size + 1, 2**31, 2**32 - 1):
        does.ask(with_votes(does.bundle_of(about, []), [msgspec.structs.replace(good, validator=index)]))


@variant
def votes_for_another_session(does: Mischief) -> None:
    """Signed for one session, sent for the next and for the one before."""
    for about in does.plan.disputes:
        for step in (-1, 1):
            if about.session + step in does.plan.sessions:
                message = does.bundle_of(about, [(v, _INVALID) for v in range(does.plan.size)])
                does.ask(msgspec.structs.replace(message, session_index=about.session + step))


@variant
def votes_of_another_kind(does: Mischief) -> None:
    """A signature of one kind under the name of another; candidates named where none may be, not this one, or too many."""
    about = does.dispute
    keys, number = does.plan.keys(about.session), about.candidate.number
    votes: list[Vote] = []
    for voter in range(does.plan.size):
        vote = signed(keys[voter], voter, does.random.choice(VALID_KINDS), number, about.session)
        kind = does.random.choice([k for k in VoteKind if k is not vote.kind])
        named = does.random.choice(([], [candidate(number + 1).hash], [about.candidate.hash] * 65, [about.candidate.hash]))
        votes.append(Vote(voter, kind, vote.signature, named))
    does.ask(with_votes(does.bundle_of(about, []), votes))


@variant
def sessions_out_of_window(does: Mischief) -> None:
    """Votes of sessions that are long over, and of such as nobody has heard of."""
    for session in (0, 1, len(does.plan.sessions) + 3, 2**32 - 1):
        about = does.dispute._replace(session=session)
        does.ask(does.bundle_of(about, [(0, _INVALID), (does.plan.size - 1, VoteKind.APPROVAL)]), tick=does.plan.height + 2)


@variant
def replayed_bundles(does: Mischief) -> None:
    """What others said, again and again, to everybody."""
    said = [s for s in does.plan.said if isinstance(s.message, RegisterVote)]
    for entry in does.random.choices(said, k=12):
        does.ask(entry.message, tick=entry.tick + does.random.uniform(0, 6))


@variant
def swapped_receipts(does: Mischief) -> None:
    """The receipt of another candidate."""
    for about in does.plan.disputes:
        other = candidate(about.candidate.number + 7).receipt
        message = does.bundle_of(about, [(0, _INVALID), (1, VoteKind.EXPLICIT_VALID)])
        does.ask(msgspec.structs.replace(message, candidate=other), sender=MALLORY)


@variant
def receipts_in_other_forms(does: Mischief) -> None:
    """One candidate, plain here and committed there; with both of the two, with none, with a bit more."""
    about = does.dispute
    message = does.bundle_of(about, [(0, _INVALID), (1, VoteKind.EXPLICIT_VALID)])
    whole = candidate(about.candidate.number).receipt
    if whole.commitments is not None:
        does.ask(
            msgspec.structs.replace(
                message, candidate=msgspec.structs.replace(whole, commitments=None, commitments_hash=commitments_hash(whole.commitments))
            )
        )
    for bad in (
        msgspec.structs.replace(whole, commitments=None, commitments_hash=None),
        msgspec.structs.replace(whole, commitments=None, commitments_hash=bytes(32)),
        msgspec.structs.replace(whole, descriptor=msgspec.structs.replace(whole.descriptor, para_id=0)),
    ):
        does.ask(msgspec.structs.replace(message, candidate=bad), sender=MALLORY)


@variant
def flood_of_single_votes(does: Mischief) -> None:
    """One validator says everything it can, one vote at a time, over and over."""
    voter = does.random.choice(does.faulty)
    for _ in range(25):
        does.ask(does.bundle_of(does.dispute, [(voter, does.random.choice((*VALID_KINDS, _INVALID)))]))


@variant
def flood_of_unknown_candidates(does: Mischief) -> None:
    """A lone voter disputes candidates that nobody has seen, until it has no room left (D16)."""
    session = does.random.choice(list(does.plan.sessions))
    voter = does.faulty[0]
    tick = does.plan.sessions[session] + 1.0
    for number in range(200, 210):
        about = Dispute(candidate(number), session, [], tick)
        message = does.bundle_of(about, [(voter, VoteKind.EXPLICIT_VALID), (voter, _INVALID)])
        does.ask(message, tick=tick + 0.05 * (number - 200), node=does.plan.network.nodes[0])


@variant
def backing_and_invalid(does: Mischief) -> None:
    """Who backed a candidate calls it invalid."""
    for about in does.plan.disputes:
        for voter in does.faulty:
            does.ask(does.bundle_of(about, [(voter, VoteKind.BACKING_SECONDED)]), tick=about.tick)
            does.ask(does.bundle_of(about, [(voter, _INVALID)]), tick=about.tick + 1)


@variant
def malformed_bitfields(does: Mischief) -> None:
    """Bits and attestations that do not go together (D13), and bundles of nothing."""
    about = does.dispute
    good = does.bundle_of(about, [(0, VoteKind.BACKING_SECONDED), (1, VoteKind.BACKING_VALID)])
    for bits in (b"", bytes(len(good.backing_validators)), b"\xff" * 64, good.backing_validators + b"\x00", b"\x01"):
        does.ask(msgspec.structs.replace(good, backing_validators=bits), sender=MALLORY)
    does.ask(msgspec.structs.replace(good, validity_votes=[]), sender=MALLORY)
    does.ask(msgspec.structs.replace(good, validity_votes=[], backing_validators=b""), sender=MALLORY)


# ------------------------------------------------------------------------------------------------ nodes


def gossip(does: Mischief, node: str, about: Dispute, votes: Sequence[Vote], number: int, **changes: object) -> None:
    """A dispute as another node would tell it, as its `number`-th message."""
    message = Gossip(
        candidate=about.candidate.receipt,
        candidate_hash=about.candidate.hash,
        block_number=0,
        session_index=about.session,
        votes=list(votes),
    )
    headers = {HEADER_ID: MessageId("votes_db", "0e" * 16, number, 0).text(), **headers_of(message.spec)}
    does.put(f"overseer.net.{node}.votes_db.dispute", encode(msgspec.structs.replace(message, **changes)), headers)


def _all_votes(does: Mischief, about: Dispute) -> list[Vote]:
    keys = does.plan.keys(about.session)
    return [signed(keys[v], v, kind, about.candidate.number, about.session) for v, kind in about.ballots]


@variant
def lying_node(does: Mischief) -> None:
    """A node tells true votes and false ones, old news, its messages out of order and twice under one number."""
    for number, about in enumerate(does.plan.disputes):
        votes = _all_votes(does, about)
        forged = [msgspec.structs.replace(vote, signature=bytes(64)) for vote in votes]
        gossip(does, LIAR_NODE, about, votes[:2], 10 + number)
        gossip(does, LIAR_NODE, about, forged, 10 + number)
        gossip(does, LIAR_NODE, about, [*forged[:2], *votes], does.random.randrange(1, 40))


@variant
def forged_gossip(does: Mischief) -> None:
    """A node tells of candidates under other hashes, of nothing, and what cannot be read."""
    for number, about in enumerate(does.plan.disputes):
        votes = _all_votes(does, about)
        gossip(does, EVIL_NODE, about, votes, 100 + number, candidate_hash=candidate(400 + number).hash)
        gossip(does, EVIL_NODE, about, [], 200 + number)
    subject = f"overseer.net.{EVIL_NODE}.votes_db.dispute"
    for headers in ({}, {HEADER_ID: "votes_db"}, {HEADER_ID: "chain_api " + "0e" * 16 + " 1 0"}, {HEADER_ID: "votes_db x 9 9"}):
        does.put(subject, does.random.randbytes(40), headers)


@variant
def flood_of_gossip(does: Mischief) -> None:
    """More disputes of sessions to come than anybody can hold."""
    for number in range(12):
        session = does.random.randint(1, len(does.plan.sessions) + 2)
        about = Dispute(candidate(300 + number), session, [(0, _INVALID), (1, VoteKind.APPROVAL)], 0)
        gossip(does, LIAR_NODE, about, _all_votes(does, about), 500 + number)
