"""`block_signing`: what a member of the serving group computes for a block, against the bare calls of the crypto that it cannot do without.

For N = 4, 16 and 43, through the subsystem's own decisions: the block is named, this member's part said, all members' parts heard, the
group's signature found with the (N - f)-th, and the block imported.
"""

import time
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace
from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from messages.chain_api import BlockImported
from messages.codec import encode
from messages.consensus_blocks import SignBlock
from messages.consensus_journal import AttemptOpened, GroupAccepted, HeadMoved, KeyFormed, ShareHeld
from messages.consensus_manager import Attempt, BlockPartial
from messages.message import Message
from messages.signals import BestChain, BlockRef
from overseer.bench.consensus_member import CHAIN, ConsensusNode, members_of, wallet_of
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.feeds.keyring import derive
from subsystems.consensus_manager.blocks import sign_block
from subsystems.consensus_manager.crypto.feldman import commit, interpolation_weights, share_of
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.crypto.threshold import hash_message
from subsystems.consensus_manager.outcome import bitmap
from subsystems.consensus_manager.terms import faulty_most

__all__ = ["block_signing", "signing_rounds"]

# Of the time 1.3 at most.
_TARGET = 0.77
_SIZES = (4, 16, 43)


async def block_signing(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    measures: list[Measure] = []
    for size in _SIZES:
        report(f"{size} members")
        sound = signing_rounds(size, sizes.rounds, sizes.signed_blocks)
        report(f"{size} members, f of them saying wrong parts")
        wrong = signing_rounds(size, sizes.rounds, sizes.signed_blocks, wrong=faulty_most(size))
        measures += [
            _judged(f"block_signing_{size}", f"{size} members", [(one.ours, one.each) for one in sound], _EACH),
            _judged(f"block_signing_{size}_least", f"{size} members, as before", [(one.ours, one.together) for one in sound], _TOGETHER),
            _judged(f"block_signing_{size}_wrong", f"{size} members, f of them wrong", [(one.ours, one.each) for one in wrong], _EACH),
        ]
    return measures


_EACH = "bare BLS12-381: the own part, every part that comes checked by itself until N - f hold, and their combination"
_TOGETHER = "the least of it: the own part, N - f parts read and combined, and one check of that"


def _judged(name: str, who: str, pairs: list[tuple[float, float]], limited_by: str) -> Measure:
    what = f"blocks that one member signs, counts and follows in a second of its processor; {who}"
    return judged(name, what, pairs, unit="blocks/s", limited_by=limited_by, target=_TARGET)


class _Group:
    """A group that serves, as the DKG would have left it, and its first member."""

    def __init__(self, size: int, wrong: int) -> None:
        self.size = size
        self.wrong = wrong
        self.degree = size - faulty_most(size) - 1
        wallets = [wallet_of(number) for number in range(size)]
        members = members_of(wallets)
        polynomial = Secret([Scalar.from_be_bytes_mod_order(derive("coefficient", n, wrong) * 2) for n in range(self.degree + 1)])
        self.shares = [share_of(polynomial, member) for member in range(size)]
        self.public = commit(polynomial)[0]
        self.key = self.public.to_compressed_bytes()
        # No election falls due meanwhile.
        self.node = ConsensusNode(0, wallets, members, interval=1_000_000)
        session, accepting, attempt = derive("session", size), derive("accepting", size), Attempt(0, 1, 0, 0)
        sealed = wallets[0].seal(Secret(self.shares[0].reveal().to_be_bytes()), session + b"share")
        assert sealed is not None
        events: list[Message] = [
            AttemptOpened(
                session=session,
                attempt=attempt,
                epoch=1,
                begins_with=accepting,
                members=members,
                validators=[member.identity.signing for member in members],
                stalls=[],
                place=0,
                lossy=False,
            ),
            KeyFormed(
                session=session,
                qualified=bitmap(range(size), size),
                commitments=[point.to_compressed_bytes() for point in commit(polynomial)],
                transcript=bytes(32),
                absent=[],
            ),
            ShareHeld(session=session, sealed=sealed),
            HeadMoved(reverted=[], applied=[BlockRef(accepting, 1)]),
            GroupAccepted(
                block=accepting,
                number=1,
                transaction=bytes(32),
                epoch=1,
                session=session,
                attempt=attempt,
                key=self.key,
                members=members,
                penalties=[],
            ),
        ]
        for event in events:
            self.node.evolve(event)

    def block(self, number: int) -> float:
        """Seconds for one block."""
        said = self.node.next_block()
        block = derive("block", self.size, number)
        name = SignBlock(
            hash=block, parent=said.parent, number=said.number, epoch=said.epoch, epoch_start=said.epoch_start, round=said.round
        )
        parts = [
            sign_block(share, chain=CHAIN, epoch=said.epoch, block=block, key=self.key, place=n) for n, share in enumerate(self.shares)
        ]
        bodies = [encode(replace(part, partial=parts[0].partial) if 0 < n <= self.wrong else part) for n, part in enumerate(parts)]
        imported = BlockImported(
            hash=block, parent=said.parent, number=said.number, session=0, backed=[], included=[], blacklisted=False, round=said.round
        )
        moved = BestChain(reverted=[], applied=[BlockRef(block, said.number)])
        # Those who made the parts hashed the block as well.
        hash_message.cache_clear()
        before = self.node.spent_s
        self.node.hear(name.spec, encode(name))
        for n, body in enumerate(bodies):
            self.node.hear(BlockPartial.spec, body, f"n{n}")
        for message in (imported, moved):
            self.node.hear(message.spec, encode(message))
        spent = self.node.spent_s - before
        assert self.node.has_signed(block)
        return spent


class _Bare:
    """The same as calls of the libraries alone, on values made beforehand."""

    def __init__(self, group: _Group) -> None:
        self.size, self.needed = group.size, group.degree + 1
        self.share = group.shares[0].reveal()
        self.public = group.public
        self.minus = -G1Point()
        self.points = [group.public] * self.needed
        self.parts = [(_hashed(0) * share.reveal()).to_compressed_bytes() for share in group.shares]

    def block(self, number: int, checked: int) -> float:
        """Seconds of one block of which so many parts are checked by themselves; 0: all that are needed together."""
        began = time.process_time()
        hashed = _hashed(number)
        (hashed * self.share).to_compressed_bytes()
        parts = [G2Point.from_compressed_bytes(part) for part in self.parts[: max(checked, self.needed)]]
        for member, part in enumerate(parts[:checked]):
            at, public = Scalar(member + 1), self.points[-1]
            for point in reversed(self.points[:-1]):
                public = public * at + point
            GT.pairing_check([public, self.minus], [hashed, part])
        signature = G2Point.multiexp_unchecked(parts[: self.needed], interpolation_weights(range(self.needed)))
        signature.to_compressed_bytes()
        if not checked:
            GT.pairing_check([self.public, self.minus], [hashed, signature])
        return time.process_time() - began


def _hashed(number: int) -> G2Point:
    return G2Point.hash_to_curve(derive("bare", number), b"bench")


class Signed(NamedTuple):
    """Blocks a second of one round: ours, and by bare calls with each part checked, or all together."""

    ours: float
    each: float
    together: float


def signing_rounds(size: int, rounds: int, blocks: int, *, wrong: int = 0) -> list[Signed]:
    """`wrong`: of so many others the first parts that come do not hold."""
    group = _Group(size, wrong)
    bare = _Bare(group)
    found: list[Signed] = []
    for number in range(rounds):
        ours = each = together = 0.0
        # In turn, as the machine has other work too.
        for block in range(number * blocks, (number + 1) * blocks):
            ours += group.block(block)
            each += bare.block(block, group.degree + 1 + wrong)
            together += bare.block(block, 0)
        found.append(Signed(blocks / ours, blocks / each, blocks / together))
    return found
