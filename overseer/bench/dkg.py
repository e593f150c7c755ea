"""`dkg_4`, `dkg_16`, `dkg_43`: what one node computes in a whole DKG, against the bare calls of the crypto that it cannot do without.

Three parts, each a figure: *deal* (its own), *receive* (all deals, to its share of the key and its confirmation) and *confirm* (all
confirmations, to the group transaction). Deciding, encoding and notes are in ours, not in the limit. *node*: the same as the whole
subsystem does it, with its tables and the blocks meanwhile. *messages* and *bytes*: what the members tell each other.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace
from nacl.bindings import crypto_box_easy, crypto_box_open_easy, crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from messages.codec import decode, encode
from messages.consensus_journal import DealTaken, Spoken
from messages.consensus_manager import Attempt, Confirm, Deal, OfAttempt, Phase, PhaseClosed
from messages.message import CATALOG, Kind
from overseer.bench.consensus_member import members_of, wallet_of
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.whole_dkg import WholeDkg, whole_dkg
from overseer.feeds.keyring import derive
from overseer.verification import verify_check
from subsystems.consensus_manager.crypto.feldman import interpolation_weights
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.member import Speaker
from subsystems.consensus_manager.progress import Mine, Progress, heard, own
from subsystems.consensus_manager.terms import Terms, terms_of
from subsystems.consensus_manager.transcript import take
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["DKG_BENCHES", "dkg_rounds"]

# Ours ÷ bare.
_TARGET = 1.3
# No aim was set for the bytes: names, sessions, closings and transactions are told beside what must be.
_TARGET_BYTES = 3
# A round of the largest takes seconds.
_LARGE, _LARGE_ROUNDS_MAX = 43, 3
# Phases that members close.
_CLOSED = 3


class _Bench:
    """One node under measure (place 0) of an attempt; the others only deal and confirm. Times are of the processor: others use it too."""

    def __init__(self, size: int, number: int) -> None:
        self.wallets = [wallet_of(n) for n in range(size)]
        members = members_of(self.wallets)
        # Another seed each round: what an earlier one left in caches helps nobody.
        self.terms = terms_of(
            chain=bytes(32),
            epoch=1,
            attempt=Attempt(0, 30, 0, 0),
            block=derive("round", number, size),
            members=members,
            validators=[member.identity.signing for member in members],
        )
        self.node = _Node(self.terms, 0, self.wallets[0])

    def deal(self) -> float:
        """Seconds for the node's own deal, signed and encoded."""
        began = time.process_time()
        self.node.speak()
        return time.process_time() - began

    def others_deals(self) -> list[bytes]:
        others = [_Node(self.terms, n, self.wallets[n]) for n in range(1, self.terms.size)]
        for other in others:
            other.speak()
        return [body for node in (self.node, *others) for name, body in node.said if name == Deal.spec.name]

    def receive(self, deals: Sequence[bytes]) -> float:
        """Seconds from the first deal to the node's own confirmation."""
        closings = [encode(self._closed(place, phase)) for phase in Phase if phase is not Phase.CONFIRM for place in range(self.terms.size)]
        began = time.process_time()
        for body in deals:
            self.node.read(Deal.spec.name, body)
        for body in closings:
            self.node.read(PhaseClosed.spec.name, body)
        spent = time.process_time() - began
        assert self.node.mine.share is not None
        return spent

    def others_confirms(self, deals: Sequence[bytes]) -> list[bytes]:
        confirms = [body for name, body in self.node.said if name == Confirm.spec.name]
        for place in range(1, self.terms.size):
            other = _Node(self.terms, place, self.wallets[place], progress=self.node.progress, deals=self.node.deals)
            other.mine = replace(other.mine, good=tuple(range(len(deals))))
            other.speak()
            confirms += [body for name, body in other.said if name == Confirm.spec.name]
        return confirms

    def confirm(self, confirms: Sequence[bytes]) -> float:
        """Seconds from the first confirmation to the transaction."""
        began = time.process_time()
        for body in confirms:
            self.node.read(Confirm.spec.name, body)
        spent = time.process_time() - began
        assert self.node.progress.transaction is not None
        return spent

    def _closed(self, place: int, phase: Phase) -> PhaseClosed:
        message = PhaseClosed(session=self.terms.session, sender=place, signature=bytes(64), phase=phase)
        return replace(message, signature=self.wallets[place].signature(message))


class _Node:
    def __init__(
        self, terms: Terms, place: int, wallet: Wallet, *, progress: Progress | None = None, deals: dict[int, Deal] | None = None
    ) -> None:
        self.terms = terms
        self.wallet = wallet
        self.progress = progress or Progress(session=terms.session)
        self.mine = Mine(place=place)
        self.deals = deals or {}
        self.said: list[tuple[str, bytes]] = []

    def read(self, name: str, body: bytes) -> None:
        spec = CATALOG.find(Kind.NETWORK, "consensus_manager", name)
        assert spec is not None
        message = decode(spec, body)
        assert isinstance(message, OfAttempt)
        taken = take(self.terms, self.progress, self.deals, message, verify_check, position=0)
        assert isinstance(taken, list)
        for event in taken:
            if isinstance(event, DealTaken):
                self.deals[event.deal.sender] = event.deal
            self.progress = heard(self.progress, event)
        self.speak()

    def speak(self) -> None:
        speaker = Speaker(self.terms, self.progress, self.mine, self.deals, head=self.terms.attempt.due, wallet=self.wallet)
        for event in speaker.due():
            self.mine = own(self.mine, event)
            if isinstance(event, Spoken):
                self.said.append((event.name, event.body))


class _Bare:
    """The same work as calls of the libraries alone, on values made beforehand."""

    def __init__(self, size: int, degree: int) -> None:
        self.size = size
        self.generator = G1Point()
        self.faulty_most = size - degree - 1
        self.scalars = [Scalar.from_be_bytes_mod_order(derive("scalar", n) * 2) for n in range(degree + 1)]
        self.points = [self.generator * scalar for scalar in self.scalars]
        self.encoded = [point.to_compressed_bytes() for point in self.points]
        self.box = derive("box", 0)
        self.public = Wallet(signing=Secret(self.box), box=Secret(self.box), sealing=None).identity.box
        self.hashed = G2Point.hash_to_curve(b"statement", b"bench")
        self.partial = self.hashed * self.scalars[0]
        self.partial_bytes = self.partial.to_compressed_bytes()
        self.signing, self.secret = crypto_sign_seed_keypair(self.box)
        self.signed = crypto_sign(bytes(100 * size), self.secret)
        self.short = crypto_sign(bytes(100), self.secret)
        self.boxed = crypto_box_easy(bytes(32), bytes(24), self.public, self.box)

    def deal(self) -> float:
        began = time.process_time()
        for scalar in self.scalars:
            (self.generator * scalar).to_compressed_bytes()
        for member in range(self.size):
            crypto_box_easy(self._share(Scalar(member + 1)).to_be_bytes(), bytes(24), self.public, self.box)
        _ = self.generator * self.scalars[0]
        crypto_sign(self.signed, self.secret)
        return time.process_time() - began

    def receive(self) -> float:
        """Of every deal: its signature, points, proof, box and share; closings; the sums, the share's check, and the confirmation."""
        began = time.process_time()
        for _ in range(self.size):
            points = [G1Point.from_compressed_bytes(data) for data in self.encoded]
            crypto_sign_open(self.signed, self.signing)
            (self.generator * self.scalars[1] - points[0] * self.scalars[2]).to_compressed_bytes()
            crypto_box_open_easy(self.boxed, bytes(24), self.public, self.box)
            _ = self.generator * self.scalars[0] == self._point(points, Scalar(self.size))
        for _ in range(_CLOSED * (self.faulty_most + 1)):
            crypto_sign_open(self.short, self.signing)
        for _ in range(_CLOSED + 2):
            crypto_sign(self.short, self.secret)
        for point in self.points:
            total = point
            for _ in range(self.size - 1):
                total = total + point
            total.to_compressed_bytes()
        _ = self.generator * self.scalars[0] == self._point(self.points, Scalar(self.size))
        (G2Point.hash_to_curve(b"statement", b"bench") * self.scalars[0]).to_compressed_bytes()
        return time.process_time() - began

    def confirm(self) -> float:
        """Of every confirmation: its signatures, the member's public share, its partial signature and the pairing; then the combination."""
        began = time.process_time()
        parts: list[G2Point] = []
        for member in range(self.size):
            # The message's, and the approval.
            crypto_sign_open(self.short, self.signing)
            crypto_sign_open(self.signed, self.signing)
            public = self._point(self.points, Scalar(member + 1))
            part = G2Point.from_compressed_bytes(self.partial_bytes)
            GT.pairing_check([public, self.generator], [self.hashed, part])
            parts.append(part)
        weights = interpolation_weights(range(len(self.scalars)))
        G2Point.multiexp_unchecked(parts[: len(weights)], weights).to_compressed_bytes()
        return time.process_time() - began

    def opened(self) -> float:
        """Of what members say to begin with: the signatures."""
        began = time.process_time()
        crypto_sign(self.short, self.secret)
        for _ in range(self.size):
            crypto_sign_open(self.short, self.signing)
        return time.process_time() - began

    def _share(self, at: Scalar) -> Scalar:
        value = self.scalars[-1]
        for scalar in reversed(self.scalars[:-1]):
            value = value * at + scalar
        return value

    def _point(self, points: Sequence[G1Point], at: Scalar) -> G1Point:
        value = points[-1]
        for point in reversed(points[:-1]):
            value = value * at + point
        return value


class Spent(Struct, frozen=True):
    """Seconds of one round, ours and bare, by part. `node`: the whole subsystem, and all of the bare calls."""

    deal: tuple[float, float]
    receive: tuple[float, float]
    confirm: tuple[float, float]
    node: tuple[float, float]
    told: WholeDkg

    @property
    def all(self) -> tuple[float, float]:
        ours, bare = zip(self.deal, self.receive, self.confirm, strict=True)
        return sum(ours), sum(bare)


def dkg_rounds(size: int, rounds: int, report: Report) -> list[Spent]:
    """Whole DKGs of so many members, as one node computes them; the bare calls follow each part at once."""
    bare = _Bare(size, _degree(size))
    spent: list[Spent] = []
    for number in range(rounds):
        report(f"round {number + 1} of {rounds}")
        bench = _Bench(size, number)
        deal = bench.deal(), bare.deal()
        deals = bench.others_deals()
        receive = bench.receive(deals), bare.receive()
        confirms = bench.others_confirms(deals)
        confirm = bench.confirm(confirms), bare.confirm()
        told = whole_dkg(size, number)
        node = told.spent_s, bare.opened() + bare.deal() + bare.receive() + bare.confirm()
        spent.append(Spent(deal, receive, confirm, node, told))
    return spent


def _degree(size: int) -> int:
    return size - (size - 1) // 3 - 1


def _bench(size: int) -> Callable[[Path, Sizes, Report], Awaitable[list[Measure]]]:
    async def dkg(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
        rounds = sizes.rounds if size < _LARGE else min(sizes.rounds, _LARGE_ROUNDS_MAX)
        spent = dkg_rounds(size, rounds, report)
        parts = {
            "deal": [one.deal for one in spent],
            "receive": [one.receive for one in spent],
            "confirm": [one.confirm for one in spent],
            "all": [one.all for one in spent],
            "node": [one.node for one in spent],
        }
        times = [
            judged(
                f"dkg_{size}_{part}",
                f"DKG of {size} members, one node's processor time: {_PARTS[part]}",
                [(ours * 1_000, limit * 1_000) for ours, limit in pairs],
                unit="ms",
                limited_by="bare BLS12-381, box and signature calls",
                target=_TARGET,
                at_most=True,
            )
            for part, pairs in parts.items()
        ]
        return [*times, *_told(size, [one.told for one in spent])]

    return dkg


_PARTS = {
    "deal": "its own deal",
    "receive": "all deals, to its share and confirmation",
    "confirm": "all confirmations, to the group transaction",
    "all": "all of these",
    "node": "the whole attempt, with the subsystem's tables and blocks",
}


def _told(size: int, told: Sequence[WholeDkg]) -> list[Measure]:
    return [
        judged(
            f"dkg_{size}_messages",
            f"messages of an attempt of {size} members without complaints (each complaint and its answer: two more)",
            [(one.messages, 2 * size**3 + size**2) for one in told],
            unit="messages",
            limited_by="2 n^3 + n^2, as in hybrid VSS",
            target=1,
            at_most=True,
        ),
        judged(
            f"dkg_{size}_bytes",
            f"bytes of those messages (of {size} members)",
            [(one.size_bytes, size * _needed_bytes(size)) for one in told],
            unit="bytes",
            limited_by="points, boxes, proofs and signatures of the deals and confirmations alone",
            target=_TARGET_BYTES,
            at_most=True,
        ),
    ]


def _needed_bytes(size: int) -> int:
    """Of one member: commitments, key, boxes, proof and signature of its deal; qualified, key, transcript and signatures of its word."""
    deal = 48 * (_degree(size) + 1) + 32 + 48 * size + 64 + 64
    return deal + (size + 7) // 8 + 48 + 32 + 64 + 96 + 64


DKG_BENCHES = {f"dkg_{size}": _bench(size) for size in (4, 16, 43)}
