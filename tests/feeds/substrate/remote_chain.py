"""A small relay chain to be followed: blocks with hashes of their own, forks, sessions, runtimes, candidates and dispute votes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from messages.polkadot import CandidateReceipt
from messages.scale import blake2b_256, candidate_hash, encode_compact, encode_vec
from overseer.feeds.keyring import Keyring, derive
from overseer.feeds.make import Ballot, make_receipt, make_validators, make_vote
from tests.feeds.substrate.relay import DisputeSet, RelayRuntime, timestamp
from tests.feeds.substrate.runtimes import storage_key

__all__ = ["RemoteChain", "StoredBlock"]


class StoredBlock(NamedTuple):
    """A block, and the state that it leaves."""

    hash: bytes
    parent: bytes
    number: int
    header: dict[str, object]
    extrinsics: list[bytes]
    events: bytes
    # Of its children.
    session: int
    spec: int


class RemoteChain:
    """The chain as its node has it. `first`: the number of the first block that is there; `heard` is told of each new head."""

    def __init__(self, seed: str = "relay", *, validators: int = 7, first: int = 0, runtimes: Sequence[RelayRuntime] = ()) -> None:
        self.seed = seed
        self.runtimes = {runtime.spec: runtime for runtime in runtimes or [RelayRuntime(1_000_000)]}
        self.blocks: dict[bytes, StoredBlock] = {}
        self.keys = make_validators(seed, validators)
        self.heard: list[Callable[[StoredBlock, bool], None]] = []
        self._sessions: dict[int, Keyring] = {}
        self._receipts: dict[bytes, CandidateReceipt] = {}
        self._included: dict[bytes, int] = {}
        self.start_session(1)
        genesis = self._block(bytes(32), first, [], b"\x00", session=1, spec=next(iter(self.runtimes)), salt=seed)
        self.genesis = self.best = self.final = genesis.hash

    def start_session(self, session: int) -> None:
        """Its validators: the same keys, each at another index."""
        turn = session % len(self.keys)
        self._sessions[session] = Keyring([*self.keys.keys[turn:], *self.keys.keys[:turn]])

    def keyring(self, session: int) -> Keyring:
        return self._sessions[session]

    @property
    def height(self) -> int:
        return self.blocks[self.best].number

    # -------------------------------------------------------------------------------------------- growing

    def grow(
        self,
        parent: bytes | None = None,
        *,
        backed: Sequence[CandidateReceipt] = (),
        included: Sequence[CandidateReceipt] = (),
        disputes: Sequence[DisputeSet] = (),
        session: int | None = None,
        spec: int | None = None,
        salt: str = "",
    ) -> bytes:
        """A block on `parent` (the best one). `session`, `spec`: those of its children, if it changes them."""
        above = self.blocks[parent or self.best]
        runtime = self.runtimes[above.spec]
        for receipt in (*backed, *included):
            self._receipts[candidate_hash(receipt)] = receipt
        for receipt in included:
            self._included[candidate_hash(receipt)] = above.number + 1
        inherent = runtime.inherent_bytes(disputes, backed, lambda c: self._receipts[c].descriptor.relay_parent)
        if session is not None:
            self.start_session(session)
        made = self._block(
            above.hash,
            above.number + 1,
            [timestamp(), inherent],
            runtime.events_bytes(backed, included),
            session=above.session if session is None else session,
            spec=above.spec if spec is None else spec,
            salt=salt,
        )
        if made.number > self.height:
            self.best = made.hash
        self._tell(made, False)
        return made.hash

    def _block(
        self, parent: bytes, number: int, extrinsics: list[bytes], events: bytes, *, session: int, spec: int, salt: str
    ) -> StoredBlock:
        state, root, log = (
            derive(self.seed, "state", salt, events),
            blake2b_256(encode_vec(extrinsics)),
            b"\x06BABE" + encode_vec([salt.encode()]),
        )
        digest = blake2b_256(parent + encode_compact(number) + state + root + encode_vec([log]))
        header: dict[str, object] = {
            "parentHash": _hex(parent),
            "number": hex(number),
            "stateRoot": _hex(state),
            "extrinsicsRoot": _hex(root),
            "digest": {"logs": [_hex(log)]},
        }
        made = StoredBlock(digest, parent, number, header, extrinsics, events, session, spec)
        self.blocks[digest] = made
        return made

    def finalize(self, block: bytes) -> None:
        self.final = block
        self._tell(self.blocks[block], True)

    def _tell(self, block: StoredBlock, final: bool) -> None:
        for heard in self.heard:
            heard(block, final)

    # -------------------------------------------------------------------------------------------- candidates and votes

    def candidate(self, label: str) -> CandidateReceipt:
        return make_receipt(derive(self.seed, label), para_id=2000, relay_parent=self.best, plain=True)

    def votes(self, receipt: CandidateReceipt, ballots: Sequence[Ballot], *, session: int = 1) -> DisputeSet:
        """Signed votes on the candidate, as a block carries them."""
        keys, candidate = self.keyring(session), candidate_hash(receipt)
        self._receipts.setdefault(candidate, receipt)
        other = derive(self.seed, "also approved")
        votes = [
            make_vote(
                keys[index],
                index,
                kind,
                candidate=candidate,
                session=session,
                relay_parent=receipt.descriptor.relay_parent,
                candidates=[candidate, other] if kind.value == "approval_multiple" else [],
            )
            for index, kind in ballots
        ]
        return session, candidate, votes

    # -------------------------------------------------------------------------------------------- questions

    def path(self, block: bytes) -> list[bytes]:
        """From the block down to the first."""
        found = [block]
        while found[-1] != self.genesis:
            found.append(self.blocks[found[-1]].parent)
        return found

    def at(self, number: int) -> bytes | None:
        return next((b for b in self.path(self.best) if self.blocks[b].number == number), None)

    def stored(self, key: bytes, block: bytes) -> bytes | None:
        """A value of the state that the block leaves."""
        at = self.blocks[block]
        runtime = self.runtimes[at.spec]
        if key == storage_key("System", "Events"):
            return at.events
        if key == storage_key("ParasShared", "CurrentSessionIndex"):
            return at.session.to_bytes(4, "little")
        prefix = storage_key("ParaSessionInfo", "Sessions")
        if key.startswith(prefix):
            session = int.from_bytes(key[len(prefix) :], "little")
            return runtime.session_bytes(self._sessions[session].validators) if session <= at.session else None
        if key.startswith(storage_key("ParasDisputes", "Included")):
            included = self._included.get(key[-32:])
            return None if included is None else (included - 1).to_bytes(4, "little")
        return None


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
