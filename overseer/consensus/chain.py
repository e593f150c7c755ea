"""The chain that the nodes of a development network make together, as a function of their stream. Pure.

A feed proposes a block; the first sound proposal in the network's stream is the one that is meant. The serving group signs it, and a feed
seals it: the first sound sealed block is the chain's. What is sound is told by a light client from genesis, so every feed finds the same.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import msgspec

from messages.chain_api import ImportBlock
from messages.codec import encode
from messages.consensus_blocks import BlockProposed, BlockSealed, SignBlock
from messages.consensus_manager import Identity
from messages.message import Message
from messages.polkadot import Scheme, Validator
from overseer.consensus.roster import Described
from overseer.verification import verify_check
from subsystems.consensus_manager.light_client import BrokenHandover, LightClient, SignedBlock
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.selection import Candidate

__all__ = ["FEED_SENDS", "SESSION", "NetworkChain", "hash_of", "header_of", "light_client_of", "make_next", "signed_block", "validators_of"]

# What a feed says to the others.
FEED_SENDS: tuple[type[Message], ...] = (BlockProposed, BlockSealed)
# All of a development network's blocks are of one session.
SESSION = 1
_PERSON = b"overseer net dev"


def hash_of(block: ImportBlock) -> bytes:
    """The hash of a block's content. What is known only afterwards does not count: its signature, and how far a feed is behind."""
    content = msgspec.structs.replace(block, hash=bytes(32), epoch_signature=None, sync=False, target_height=0)
    return blake2b(encode(content), digest_size=32, person=_PERSON).digest()


def validators_of(nodes: Iterable[Described]) -> list[Validator]:
    """The validators of a development network: its nodes, in the order of their names."""
    return [Validator(node.signing_key, Scheme.ED25519) for node in sorted(nodes, key=lambda node: node.node)]


def light_client_of(genesis: bytes, nodes: Sequence[Described], parameters: Parameters) -> LightClient:
    """At genesis, with the network's nodes as validators."""
    candidates = [
        Candidate(index=index, identity=Identity(node.signing_key, node.box_key), weight=node.weight)
        for index, node in enumerate(sorted(nodes, key=lambda node: node.node))
    ]
    return LightClient(genesis, candidates, parameters, verify_check)


def make_next(
    parent: bytes, number: int, *, epoch: int, epoch_start: int, validators: Sequence[Validator], group_transactions: Sequence[bytes] = ()
) -> ImportBlock:
    """The block of that height. Its round is its height: there is one round for a block."""
    block = ImportBlock(
        hash=bytes(32),
        parent=parent,
        number=number,
        session=SESSION,
        session_start=list(validators) if number == 1 else None,
        epoch=epoch,
        epoch_start=epoch_start,
        round=number,
        group_transactions=list(group_transactions),
    )
    return msgspec.structs.replace(block, hash=hash_of(block))


def header_of(block: ImportBlock) -> SignBlock:
    """As it is named to the group that is to sign it."""
    return SignBlock(
        hash=block.hash,
        parent=block.parent,
        number=block.number,
        epoch=block.epoch,
        epoch_start=block.epoch_start,
        round=block.round,
    )


def signed_block(block: ImportBlock) -> SignedBlock:
    """As a light client looks at it."""
    return SignedBlock(
        hash=block.hash,
        parent=block.parent,
        number=block.number,
        epoch=block.epoch,
        epoch_start=block.epoch_start,
        group_transactions=block.group_transactions,
        epoch_signature=block.epoch_signature,
    )


class NetworkChain:
    """Reads what feeds say, in the order of the stream. `tip`: the last sealed block; `proposal`: the one that is meant to follow."""

    def __init__(self, genesis: bytes, nodes: Sequence[Described], parameters: Parameters) -> None:
        self._client = light_client_of(genesis, nodes, parameters)
        self._validators = validators_of(nodes)
        self.tip = genesis
        self.number = 0
        self.proposal: ImportBlock | None = None

    @property
    def is_signed(self) -> bool:
        """Whether the next block needs a group's signature."""
        return self._client.now.group is not None

    def hash_at(self, number: int) -> bytes | None:
        """Of a sealed block."""
        return self._client.hash_at(number)

    def propose(self, group_transactions: Sequence[bytes]) -> ImportBlock:
        """The next block, with these group transactions."""
        now = self._client.now
        return make_next(
            self.tip,
            self.number + 1,
            epoch=now.epoch,
            epoch_start=now.epoch_start,
            validators=self._validators,
            group_transactions=group_transactions,
        )

    def hear_proposed(self, block: ImportBlock) -> bool:
        """Whether it is the one that is meant from now on."""
        if self.proposal is not None or block != self.propose(block.group_transactions):
            return False
        self.proposal = block
        return True

    def hear_sealed(self, block: ImportBlock) -> bool:
        """Whether the chain has grown by it."""
        plain = msgspec.structs.replace(block, epoch_signature=None)
        if plain != self.propose(block.group_transactions):
            return False
        try:
            self._client.take(signed_block(block))
        except BrokenHandover:
            return False
        self.tip, self.number, self.proposal = block.hash, block.number, None
        return True
