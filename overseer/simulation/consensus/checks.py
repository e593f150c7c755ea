"""What consensus groups promise, whatever goes wrong: judged from journals and streams alone, by definitions of its own.

Of liars nothing is promised. A node that lost a part of its store may have forgotten what it signed, and its share.
"""

from collections.abc import Mapping, Sequence

import msgspec
from py_arkworks_bls12381 import G1Point, Scalar

from messages.chain_api import Best, Header
from messages.consensus_blocks import BlockSigned, PartialSaid, SignBlock
from messages.consensus_journal import AttemptOpened, GroupAccepted, GroupRefused, HeadMoved, KeyFormed, ShareHeld
from messages.consensus_manager import BlockPartial, Deal, Epoch, EpochReport, GroupsOnDisk, GroupsReport
from messages.message import Message
from messages.subjects import parse
from overseer.ports.bus import StoredMessage
from overseer.runner.schema import Record
from overseer.simulation.checks_course import Archive, ask
from overseer.simulation.consensus.cast import Play, SimulatedVault
from overseer.simulation.network import NET
from overseer.simulation.scenario import AtRest, Submission, Watcher

__all__ = ["DkgChecker", "GroupsChecker", "SigningChecker"]

_MANAGER = "consensus_manager"
# The order of the group.
_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


class DkgChecker(Watcher):
    """One key for each session, of which the honest hold shares; nobody honest deals twice (E06, E19, E23, R5, R8)."""

    name = "dkg"

    def __init__(self, play: Play, archive: Archive) -> None:
        self._play = play
        self._archive = archive
        self._formed: dict[bytes, tuple[bytes, Sequence[bytes], bytes, Sequence[int]]] = {}
        self._deals: dict[tuple[str, bytes], bytes] = {}
        # By session: each node's place, and its share as it is sealed.
        self._places: dict[tuple[str, bytes], int] = {}
        self._held: dict[bytes, dict[str, bytes]] = {}

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        if subsystem != _MANAGER or node in self._play.liars:
            return
        for event in events:
            match event:
                case KeyFormed():
                    said = (event.qualified, event.commitments, event.transcript, event.absent)
                    known = self._formed.setdefault(event.session, said)
                    self.expect(known == said, f"{node}: another outcome of session {event.session.hex()[:8]} than at another node")
                case ShareHeld():
                    self._held.setdefault(event.session, {})[node] = event.sealed
                case AttemptOpened(place=int(place)):
                    self._places[node, event.session] = place
                case _:
                    pass

    def stored(self, node: str, message: StoredMessage) -> None:
        deal = self._archive.as_stored(message) if node == NET else None
        if isinstance(deal, Deal) and (by := parse(message.subject).node) not in self._play.liars:
            known = self._deals.setdefault((by, deal.session), message.body)
            self.expect(known == message.body, f"{by} dealt twice in session {deal.session.hex()[:8]}")

    def at_rest(self, rest: AtRest) -> None:
        degree = _signers(self._play) - 1
        for session, held in sorted(self._held.items()):
            _, commitments, *_ = self._formed[session]
            shares: dict[int, int] = {}
            for node, sealed in sorted(held.items()):
                opened = SimulatedVault(node).wallet(session).unseal(sealed, session + b"share")
                self.expect(opened is not None, f"{node} cannot open its share of session {session.hex()[:8]}")
                if opened is not None:
                    shares[self._places[node, session] + 1] = int.from_bytes(opened.reveal(), "big")
            if len(shares) > degree:
                self._fits(session, shares, degree, bytes(commitments[0]))

    def _fits(self, session: bytes, shares: Mapping[int, int], degree: int, key: bytes) -> None:
        """All shares lie on one polynomial of that degree, and at 0 it has the key's secret."""
        base = sorted(shares)[: degree + 1]
        for at in shares:
            self.expect(
                _interpolated(at, {x: shares[x] for x in base}) == shares[at],
                f"session {session.hex()[:8]}: the share at {at} does not fit",
            )
        secret = _interpolated(0, {x: shares[x] for x in base})
        found = (G1Point() * Scalar.from_be_bytes(secret.to_bytes(32, "big"))).to_compressed_bytes()
        self.expect(found == key, f"session {session.hex()[:8]}: the honest members' shares give another key")


def _interpolated(at: int, points: Mapping[int, int]) -> int:
    """The value there of the polynomial through the points, by Lagrange's formula."""
    total = 0
    for x, y in points.items():
        above = below = 1
        for other in points:
            if other != x:
                above = above * (at - other) % _ORDER
                below = below * (x - other) % _ORDER
        total += y * above * pow(below, -1, _ORDER)
    return total % _ORDER


class _Accepted(msgspec.Struct, frozen=True):
    """As one node records it."""

    number: int
    epoch: int
    key: bytes
    epoch_start: int
    begins: int


class GroupsChecker(Watcher):
    """On every chain one group for an epoch, each after its interval, judged alike by all; at rest all agree (E09 to E18, E25)."""

    name = "groups"

    def __init__(self, play: Play) -> None:
        self._play = play
        self._verdicts: dict[tuple[bytes, bytes], tuple[str, _Accepted | None]] = {}
        self._heads: dict[str, list[tuple[int, HeadMoved]]] = {}

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        if subsystem != _MANAGER:
            return
        for event in events:
            match event:
                case GroupAccepted():
                    accepted = _Accepted(
                        event.number, event.epoch, event.key, event.attempt.epoch_start, event.attempt.due + event.attempt.delay
                    )
                    self._judged(node, (event.block, event.transaction), ("", accepted))
                case GroupRefused():
                    self._judged(node, (event.block, event.transaction), (event.error, None))
                case HeadMoved():
                    self._heads.setdefault(node, []).append((record.index, event))
                case _:
                    pass

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        if subsystem == _MANAGER:
            self._heads[node] = [(at, moved) for at, moved in self._heads.get(node, []) if at <= index]

    def _judged(self, node: str, what: tuple[bytes, bytes], verdict: tuple[str, _Accepted | None]) -> None:
        known = self._verdicts.setdefault(what, verdict)
        self.expect(
            known == verdict, f"{node} judges a group transaction of block {what[0].hex()[:8]} {verdict[0] or 'accepted'!r}, another not"
        )

    def at_rest(self, rest: AtRest) -> None:
        known = {node: self._groups(node) for node in self._play.network.nodes}
        first = self._play.network.nodes[0]
        for node, groups in known.items():
            self.expect(groups == known[first], f"{node} knows the groups {groups}, {first} {known[first]}")
            best, report = ask(self.name, rest, node, Best(), Header), ask(self.name, rest, node, Epoch(), EpochReport)
            chain = self._chain(node)
            self.expect(chain.get(best.number) == best.hash, f"{node} follows another chain than its chain_api")
            last = groups[-1] if groups else _Accepted(0, 0, b"", 0, 0)
            key = b"" if report.group is None else report.group.key
            self.expect((report.epoch, report.epoch_start, key) == (last.epoch, last.number, last.key), f"{node} says that {report} serves")
        self._spaced(known[first])
        if self._play.forks or not known[first]:
            return
        # Who signs a chain has enough shares.
        held = [
            node for node in self._play.honest if known[first][-1].epoch in ask(self.name, rest, node, GroupsOnDisk(), GroupsReport).epochs
        ]
        needed = _signers(self._play) - len(self._play.liars)
        self.expect(len(held) >= needed, f"only {held} hold shares of the group that serves")

    def _chain(self, node: str) -> dict[int, bytes]:
        chain: dict[int, bytes] = {}
        for _, moved in self._heads.get(node, []):
            for ref in moved.reverted:
                del chain[ref.number]
            for ref in moved.applied:
                chain[ref.number] = ref.hash
        return chain

    def _groups(self, node: str) -> list[_Accepted]:
        on_chain = set(self._chain(node).values())
        found = [accepted for (block, _), (_, accepted) in self._verdicts.items() if accepted is not None and block in on_chain]
        return sorted(found, key=lambda accepted: accepted.number)

    def _spaced(self, groups: Sequence[_Accepted]) -> None:
        parameters = self._play.parameters
        start = 0
        for epoch, group in enumerate(groups, 1):
            self.expect(group.epoch == epoch, f"the group accepted at {group.number} begins epoch {group.epoch}, not {epoch}")
            self.expect(group.number >= start + parameters.interval, f"epoch {epoch} begins at {group.number}, the one before at {start}")
            window = parameters.election_timeout * parameters.attempts_alive
            timely = group.epoch_start == start and group.begins < group.number <= group.begins + window
            delay = group.begins - start - parameters.interval
            timely = timely and delay >= 0 and delay % parameters.election_timeout == 0
            self.expect(timely, f"the group accepted at {group.number} is of an attempt of {group.begins}, epoch start {group.epoch_start}")
            start = group.number


class SigningChecker(Watcher):
    """An honest member signs one child of a block, and one signature of one child is the group's.

    That it is the signature of the group that serves is checked by the light client of the chain's author (`SignedChain`).
    """

    name = "signing"

    def __init__(self, play: Play, archive: Archive) -> None:
        self._play = play
        self._archive = archive
        self._parents: dict[bytes, bytes] = {}
        self._signed: dict[tuple[str, bytes], bytes] = {}
        # By parent: the child, and the group's signature of it.
        self._sealed: dict[bytes, tuple[bytes, bytes]] = {}
        self._forgetful: set[str] = set()

    def submitted(self, submission: Submission) -> None:
        if isinstance(submission.message, SignBlock):
            self._parents[submission.message.hash] = submission.message.parent

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        if subsystem == _MANAGER:
            self._forgetful.add(node)

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        if subsystem != _MANAGER or node in self._play.liars:
            return
        for event in events:
            if isinstance(event, BlockSigned):
                self._seal(node, event)
            if isinstance(event, PartialSaid):
                self._sign(node, event.block)

    def stored(self, node: str, message: StoredMessage) -> None:
        partial = self._archive.as_stored(message) if node == NET else None
        if isinstance(partial, BlockPartial) and (by := parse(message.subject).node) not in self._play.liars:
            self._sign(by, partial.block)

    def _sign(self, node: str, block: bytes) -> None:
        parent = self._parent(node, block)
        first = self._signed.setdefault((node, parent), block)
        self.expect(first == block or node in self._forgetful, f"{node} signs two children of {parent.hex()[:8]}")

    def _seal(self, node: str, event: BlockSigned) -> None:
        """Two blocks of one parent are never both signed; one block has one signature, whoever combined it."""
        parent = self._parent(node, event.block)
        block, signature = self._sealed.setdefault(parent, (event.block, event.signature))
        self.expect(block == event.block, f"{node}: two children of {parent.hex()[:8]} are signed by the group")
        self.expect(signature == event.signature, f"{node}: block {block.hex()[:8]} has two signatures of the group")

    def _parent(self, node: str, block: bytes) -> bytes:
        """Of a block that was named."""
        parent = self._parents.get(block)
        self.expect(parent is not None, f"{node} signs a block that nobody named")
        assert parent is not None
        return parent


def _signers(play: Play) -> int:
    """How many of a group sign for it: N - f."""
    size = play.parameters.group_size
    return size - (size - 1) // 3
