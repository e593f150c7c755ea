"""What the chain's tests speak in: blocks by name, and the world as a listener knows it from what was sent."""

from hashlib import blake2b

from nacl.signing import SigningKey

from messages.chain_api import (
    AncestorsOf,
    Best,
    Blacklist,
    FinalizeBlock,
    Finalized,
    GovernanceStatus,
    ImportBlock,
    IsBlacklisted,
    Leaves,
    Resume,
    ResumeMode,
)
from messages.governance import resume_payload
from messages.message import Message
from messages.polkadot import DisputeRef, Side, Transaction, TransactionKind, VoteKind
from messages.signals import ActiveLeaves, BestChain, BlockFinalized, BlocksBlacklisted
from overseer.testing.given import Given, Then
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi

AUTHORITY = SigningKey(bytes(range(32)))


def digest(name: object) -> bytes:
    return blake2b(str(name).encode(), digest_size=32).digest()


GENESIS = digest("genesis")


def cause(name: str = "candidate", session: int = 0) -> DisputeRef:
    return DisputeRef(session=session, candidate=digest(name))


def transaction(validator: int, *, candidate: str = "candidate", signature: bytes = bytes(64)) -> Transaction:
    return Transaction(TransactionKind.SLASH, 0, digest(candidate), validator, Side.INVALID, VoteKind.EXPLICIT_VALID, signature)


class Listener:
    """A subsystem that knows the chain by the signals alone."""

    def __init__(self) -> None:
        self.best: list[bytes] = [GENESIS]
        self.leaves: set[bytes] = set()
        self.blacklisted: list[bytes] = []
        self.finalized = 0

    def hear(self, sent: list[Message]) -> None:
        for message in sent:
            match message:
                case BestChain():
                    for ref in message.reverted:
                        assert self.best.pop() == ref.hash
                        assert len(self.best) == ref.number
                    for ref in message.applied:
                        assert len(self.best) == ref.number
                        self.best.append(ref.hash)
                case ActiveLeaves():
                    assert message.activated or message.deactivated
                    for ref in message.deactivated:
                        self.leaves.remove(ref.hash)
                    for ref in message.activated:
                        assert ref.hash not in self.leaves
                        self.leaves.add(ref.hash)
                case BlocksBlacklisted():
                    self.blacklisted += message.hashes
                case BlockFinalized():
                    assert message.number > self.finalized
                    self.finalized = message.number
                case _:
                    pass


class Story:
    """A chain with blocks called by name; `genesis` is there."""

    def __init__(self, **settings: object) -> None:
        config = ChainConfig(**{"genesis": GENESIS, "governance_authority": bytes(AUTHORITY.verify_key), **settings})  # type: ignore[arg-type]
        self.given = Given(ChainApi(config))
        self.heard = Listener()
        self.numbers: dict[bytes, int] = {GENESIS: 0}
        self.parents: dict[bytes, bytes] = {}

    def when(self, message: Message) -> Then:
        then = self.given.when(message)
        self.heard.hear(then.sent)
        return then

    def settle(self) -> Then:
        then = self.given.settle()
        self.heard.hear(then.sent)
        return then

    def step(self) -> Then | None:
        then = self.given.fire_one()
        if then is not None:
            self.heard.hear(then.sent)
        return then

    def block(self, name: object, parent: object = "genesis", **fields: object) -> ImportBlock:
        above = digest(parent)
        self.numbers[digest(name)] = self.numbers[above] + 1
        self.parents[digest(name)] = above
        settings = {"session": 0, **fields}
        return ImportBlock(hash=digest(name), parent=above, number=self.numbers[above] + 1, **settings)  # type: ignore[arg-type]

    def imports(self, *names: object, on: object = "genesis", **fields: object) -> Then:
        """Import a chain of blocks, one on the other; what followed from the last."""
        then = Then()
        for name in names:
            then = self.when(self.block(name, on, **fields))
            assert then.rejection is None
            on = name
        return then

    def finalize(self, name: object) -> Then:
        return self.when(FinalizeBlock(hash=digest(name)))

    def blacklist(self, *names: object, candidate: str = "candidate") -> Then:
        return self.when(Blacklist(roots=[digest(n) for n in names], cause=cause(candidate)))

    def resume(
        self, mode: ResumeMode, *roots: object, entry: int | None = None, frozen_at: int | None = None, key: SigningKey = AUTHORITY
    ) -> Resume:
        """A resume signed for the entry in force, or for what is given."""
        report = self.given.ask(GovernanceStatus())
        entry = report.entry if entry is None else entry
        frozen_at = report.frozen_at if frozen_at is None else frozen_at
        hashes = [digest(r) for r in roots]
        payload = resume_payload(mode, chain=GENESIS, entry=entry, frozen_at=frozen_at or 0, roots=hashes)
        signature = key.sign(payload).signature
        return Resume(mode=mode, chain=GENESIS, entry=entry, frozen_at=frozen_at or 0, roots=hashes, signature=signature)

    @property
    def best(self) -> bytes:
        return self.given.ask(Best()).hash

    @property
    def finalized(self) -> int:
        return self.given.ask(Finalized()).number

    @property
    def leaves(self) -> set[bytes]:
        return set(self.given.ask(Leaves()).hashes)

    def is_blacklisted(self, name: object) -> bool:
        return self.given.ask(IsBlacklisted(hash=digest(name))).blacklisted

    def ancestors(self, name: object, k: int) -> list[bytes]:
        return self.given.ask(AncestorsOf(hash=digest(name), k=k)).hashes

    def in_governance(self) -> bool:
        return self.given.ask(GovernanceStatus()).frozen_at is not None

    def replays(self) -> None:
        """The same events build the same tables."""
        other = self.given.replayed()
        for table in self.given.rows.tables():
            assert list(other.rows.scan(table, b"", None)) == list(self.given.rows.scan(table, b"", None)), table


def names(*items: object) -> list[bytes]:
    return [digest(item) for item in items]


def final_to_9() -> Story:
    """Blocks 1 to 9 in a line, all final."""
    story = Story()
    story.imports(*range(1, 10))
    story.finalize(9)
    return story
