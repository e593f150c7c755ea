"""What faulty members do in a DKG: each changes what the honest code is about to publish."""

from collections.abc import Iterator
from random import Random

from dkg_kit import drawn
from dkg_network import Lie, Node
from msgspec.structs import replace

from messages.consensus_manager import (
    Complaint,
    ComplaintReason,
    Confirm,
    Deal,
    Equivocation,
    Justify,
    OfAttempt,
    Opened,
    Phase,
    PhaseClosed,
)
from messages.message import Message
from subsystems.consensus_manager.crypto.boxes import box_share, ephemeral_keys
from subsystems.consensus_manager.crypto.dealing import deal_from, shown_share
from subsystems.consensus_manager.crypto.secret import Secret

__all__ = [
    "answers_wrongly",
    "bad_boxes",
    "complains_falsely",
    "confirms_wrongly",
    "equivocates",
    "hurries",
    "malformed_deal",
    "no_answers",
    "nothing_from",
    "proven_equivocation",
    "random_lies",
    "replays",
    "silent",
    "wrong_shares",
]


def silent(node: Node, message: Message) -> Iterator[Message]:
    """Says nothing at all."""
    yield from ()


def nothing_from(kind: type[Message]) -> Lie:
    """Says nothing from its first message of this kind on."""
    done: list[bool] = []

    def lie(node: Node, message: Message) -> Iterator[Message]:
        if isinstance(message, kind):
            done.append(True)
        if not done:
            yield message

    return lie


def _dealing(node: Node, seed: bytes) -> Deal:
    terms, place = node.terms, node.mine.place if node.mine else 0
    dealt = deal_from(
        Secret(seed),
        session=terms.session,
        dealer=place,
        degree=terms.degree,
        receivers=[member.identity.box for member in terms.members],
    )
    deal = Deal(
        session=terms.session,
        sender=place,
        signature=bytes(64),
        commitments=dealt.commitments,
        ephemeral=dealt.ephemeral,
        boxes=dealt.boxes,
        proof=dealt.proof,
    )
    return node.say(deal)  # type: ignore[return-value]


def bad_boxes(*targets: int) -> Lie:
    """The boxes of these members do not open."""

    def lie(node: Node, message: Message) -> Iterator[Message]:
        if isinstance(message, Deal):
            boxes = [drawn("box", i) + bytes(16) if i in targets else box for i, box in enumerate(message.boxes)]
            message = node.say(replace(message, boxes=boxes))
        yield message

    return lie


def wrong_shares(*targets: int, seed: bytes = b"s" * 32) -> Lie:
    """The boxes of these members hold shares that do not fit. Complaints are answered by the right ones, unless another lie does."""

    def lie(node: Node, message: Message) -> Iterator[Message]:
        terms, place = node.terms, node.mine.place if node.mine else 0
        if isinstance(message, Deal):
            deal = _dealing(node, seed)
            public, secret = ephemeral_keys(Secret(seed))
            boxes: list[bytes] = []
            for i, member in enumerate(terms.members):
                share = shown_share(Secret(seed), session=terms.session, dealer=place, degree=terms.degree, member=i)
                share = bytes(31) + b"\x07" if i in targets else share
                where = terms.session + place.to_bytes(2, "little") + i.to_bytes(2, "little")
                boxes.append(box_share(share, place=where, receiver=member.identity.box, ephemeral=secret))
            message = node.say(replace(deal, ephemeral=public, boxes=boxes))
        elif isinstance(message, Justify):
            share = shown_share(Secret(seed), session=terms.session, dealer=place, degree=terms.degree, member=message.complainer)
            message = node.say(replace(message, share=share))
        yield message

    return lie


def answers_wrongly(node: Node, message: Message) -> Iterator[Message]:
    if isinstance(message, Justify):
        message = node.say(replace(message, share=bytes(31) + b"\x05"))
    yield message


def no_answers(node: Node, message: Message) -> Iterator[Message]:
    if not isinstance(message, Justify):
        yield message


def equivocates(node: Node, message: Message) -> Iterator[Message]:
    """Two deals on the stream."""
    yield message
    if isinstance(message, Deal):
        yield _dealing(node, b"e" * 32)


def proven_equivocation(dealer: Node) -> Lie:
    """This node shows two deals of `dealer` that were never on the stream."""

    def lie(node: Node, message: Message) -> Iterator[Message]:
        yield message
        if isinstance(message, Opened):
            first, second = _dealing(dealer, b"1" * 32), _dealing(dealer, b"2" * 32)
            place = node.mine.place if node.mine else 0
            proof = Equivocation(session=node.terms.session, sender=place, signature=bytes(64), first=first, second=second)
            yield node.say(proof)

    return lie


def malformed_deal(how: int) -> Lie:
    """One of five ways."""

    def lie(node: Node, message: Message) -> Iterator[Message]:
        if isinstance(message, Deal):
            match how % 5:
                case 0:
                    changed = replace(message, commitments=[b"\xc0" + bytes(47), *message.commitments[1:]])
                case 1:
                    changed = replace(message, commitments=[*message.commitments, message.commitments[0]])
                case 2:
                    changed = replace(message, boxes=message.boxes[:-1])
                case 3:
                    changed = replace(message, proof=message.proof[:32] + bytes(31) + b"\x01")
                case _:
                    changed = replace(message, commitments=[message.commitments[1], *message.commitments[1:]])
            message = node.say(changed)
        yield message

    return lie


def complains_falsely(node: Node, message: Message) -> Iterator[Message]:
    """About everybody, again and again."""
    if isinstance(message, Opened | Deal | PhaseClosed):
        place = node.mine.place if node.mine else 0
        for dealer in range(node.terms.size):
            complaint = Complaint(
                session=node.terms.session, sender=place, signature=bytes(64), dealer=dealer, reason=ComplaintReason.UNREADABLE
            )
            yield node.say(complaint)
    yield message


def hurries(node: Node, message: Message) -> Iterator[Message]:
    """Closes all phases with whatever it says."""
    for phase in Phase:
        place = node.mine.place if node.mine else 0
        yield node.say(PhaseClosed(session=node.terms.session, sender=place, signature=bytes(64), phase=phase))
    yield message


def confirms_wrongly(node: Node, message: Message) -> Iterator[Message]:
    """Another outcome, then a partial signature that is none, then an approval that is none."""
    if isinstance(message, Confirm):
        yield node.say(replace(message, key=next(iter(node.deals.values())).commitments[0]))
        yield node.say(replace(message, transcript=bytes(32)))
        yield node.say(replace(message, partial=b"\xc0" + bytes(95)))
        yield node.say(replace(message, approval=bytes(64)))
    else:
        yield message


def replays(node: Node, message: Message) -> Iterator[Message]:
    """Says its own messages twice, and once more as if it were somebody else, and as if it were another session."""
    yield message
    yield message
    if isinstance(message, OfAttempt):
        yield replace(message, sender=(message.sender + 1) % node.terms.size)
        yield replace(message, sender=node.terms.size + 200)
        yield replace(message, session=drawn("another session"))


def random_lies(random: Random, size: int) -> list[Lie]:
    """A faulty member's ways, drawn."""
    targets = random.sample(range(size), random.randint(1, size))
    one: list[Lie] = random.choice(
        [
            [silent],
            [nothing_from(random.choice([Deal, Complaint, PhaseClosed, Confirm]))],
            [bad_boxes(*targets)],
            [bad_boxes(*targets), no_answers],
            [wrong_shares(*targets)],
            [wrong_shares(*targets), answers_wrongly],
            [wrong_shares(*targets), no_answers],
            [equivocates],
            [malformed_deal(random.randrange(5))],
            [complains_falsely],
            [hurries],
            [confirms_wrongly],
            [replays],
        ]
    )
    more: list[Lie] = random.sample([complains_falsely, hurries, confirms_wrongly, replays], random.choice([0, 0, 1, 2]))
    return [*one, *more]
