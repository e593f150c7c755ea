"""`dkg_4`, `dkg_16`, `dkg_43`: what one node computes in a whole DKG, against the bare calls of the crypto that it cannot do without.

Three parts, each a figure: *deal* (its own), *receive* (all deals, to its share of the key and its confirmation) and *confirm* (all
confirmations, to the group transaction). Deciding, encoding, closings and notes are in ours, not in the limit.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace
from nacl.bindings import crypto_box_easy, crypto_box_open_easy, crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from messages.codec import decode, encode
from messages.consensus_journal import DealTaken, Spoken
from messages.consensus_manager import Attempt, Confirm, Deal, Member, OfAttempt, Phase, PhaseClosed
from messages.message import CATALOG, Kind
from overseer.bench.measure import Measure, Report, Sizes, judged
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


class _Bench:
    """One node under measure (place 0) of an attempt; the others only deal and confirm. Times are of the processor: others use it too."""

    def __init__(self, size: int, number: int) -> None:
        self.wallets = [Wallet(signing=_drawn("s", n), box=_drawn("b", n), sealing=_drawn("k", n)) for n in range(size)]
        members = [Member(n, wallet.identity) for n, wallet in enumerate(self.wallets)]
        # Another seed each round: what an earlier one left in caches helps nobody.
        self.terms = terms_of(
            chain=bytes(32),
            epoch=1,
            attempt=Attempt(0, 30, 0, 0),
            block=_drawn("round", number, size).reveal(),
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
            other.mine = replace(other.mine, good=[*range(len(deals))])
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
        self.scalars = [Scalar.from_be_bytes_mod_order(_drawn("scalar", n).reveal() * 2) for n in range(degree + 1)]
        self.points = [self.generator * scalar for scalar in self.scalars]
        self.encoded = [point.to_compressed_bytes() for point in self.points]
        self.box = _drawn("box", 0).reveal()
        self.public = Wallet(signing=Secret(self.box), box=Secret(self.box), sealing=None).identity.box
        self.hashed = G2Point.hash_to_curve(b"statement", b"bench")
        self.partial = self.hashed * self.scalars[0]
        self.partial_bytes = self.partial.to_compressed_bytes()
        self.signing, secret = crypto_sign_seed_keypair(self.box)
        self.signed = crypto_sign(bytes(100 * size), secret)
        self.boxed = crypto_box_easy(bytes(32), bytes(24), self.public, self.box)

    def deal(self) -> float:
        began = time.process_time()
        for scalar in self.scalars:
            (self.generator * scalar).to_compressed_bytes()
        for member in range(self.size):
            crypto_box_easy(self._share(Scalar(member + 1)).to_be_bytes(), bytes(24), self.public, self.box)
        _ = self.generator * self.scalars[0]
        return time.process_time() - began

    def receive(self) -> float:
        """Of every deal: its signature, points, proof, box and share; then the sums, the share's check, and the confirmation."""
        began = time.process_time()
        for _ in range(self.size):
            points = [G1Point.from_compressed_bytes(data) for data in self.encoded]
            crypto_sign_open(self.signed, self.signing)
            (self.generator * self.scalars[1] - points[0] * self.scalars[2]).to_compressed_bytes()
            crypto_box_open_easy(self.boxed, bytes(24), self.public, self.box)
            _ = self.generator * self.scalars[0] == self._point(points, Scalar(self.size))
        for point in self.points:
            total = point
            for _ in range(self.size - 1):
                total = total + point
            total.to_compressed_bytes()
        _ = self.generator * self.scalars[0] == self._point(self.points, Scalar(self.size))
        (G2Point.hash_to_curve(b"statement", b"bench") * self.scalars[0]).to_compressed_bytes()
        return time.process_time() - began

    def confirm(self) -> float:
        """Of every confirmation: its signature, the member's public share, its partial signature and the pairing; then the combination."""
        began = time.process_time()
        for member in range(self.size):
            crypto_sign_open(self.signed, self.signing)
            public = self._point(self.points, Scalar(member + 1))
            GT.pairing_check([public, self.generator], [self.hashed, G2Point.from_compressed_bytes(self.partial_bytes)])
        weights = interpolation_weights(range(len(self.scalars)))
        total = G2Point.identity()
        for weight in weights:
            total = total + G2Point.from_compressed_bytes(self.partial_bytes) * weight
        total.to_compressed_bytes()
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
    """Seconds of one round, ours and bare, by part."""

    deal: tuple[float, float]
    receive: tuple[float, float]
    confirm: tuple[float, float]


def dkg_rounds(size: int, rounds: int, report: Report) -> list[Spent]:
    """Whole DKGs of so many members, as one node computes them; the bare calls follow each part at once."""
    bare = _Bare(size, size - (size - 1) // 3 - 1)
    spent: list[Spent] = []
    for number in range(rounds):
        report(f"round {number + 1} of {rounds}")
        bench = _Bench(size, number)
        deal = bench.deal(), bare.deal()
        deals = bench.others_deals()
        receive = bench.receive(deals), bare.receive()
        confirms = bench.others_confirms(deals)
        spent.append(Spent(deal, receive, (bench.confirm(confirms), bare.confirm())))
    return spent


def _bench(size: int) -> Callable[[Path, Sizes, Report], Awaitable[list[Measure]]]:
    async def dkg(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
        spent = dkg_rounds(size, sizes.rounds, report)
        parts = {
            "deal": [one.deal for one in spent],
            "receive": [one.receive for one in spent],
            "confirm": [one.confirm for one in spent],
        }
        parts["all"] = [(sum(o for o, _ in parts), sum(b for _, b in parts)) for parts in zip(*parts.values(), strict=True)]
        return [
            judged(
                f"dkg_{size}_{part}",
                f"DKG of {size} members, one node's part: {part}",
                [(ours * 1_000, limit * 1_000) for ours, limit in pairs],
                unit="ms",
                limited_by="bare BLS12-381 and box calls",
                target=_TARGET,
                at_most=True,
            )
            for part, pairs in parts.items()
        ]

    return dkg


DKG_BENCHES = {f"dkg_{size}": _bench(size) for size in (4, 16, 43)}


def _drawn(*parts: object) -> Secret[bytes]:
    return Secret(blake2b(repr(parts).encode(), digest_size=32).digest())
