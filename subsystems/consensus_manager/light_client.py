"""The handovers of a chain from genesis, checked by blocks alone: what `overseer verify-epochs` says.

A block is signed by the group that serves *before* it. So the block that accepts a group is the last one that the group before it signs: it
is the old group that says who follows. Until the first group is accepted blocks are not signed, and what makes that group right is that its
members are the ones drawn from the genesis' validators, and that they approved.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from messages.consensus_manager import Attempt
from overseer.subsystem import Verify
from subsystems.consensus_manager.blocks import is_block_signed
from subsystems.consensus_manager.deriving import derive
from subsystems.consensus_manager.handover import Serving, acceptance_of
from subsystems.consensus_manager.judging import Ground, judge_block
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.schedule import asked_back
from subsystems.consensus_manager.selection import Candidate
from subsystems.consensus_manager.terms import Terms

__all__ = ["BrokenHandover", "LightClient", "SignedBlock", "verify_epochs"]


class SignedBlock(Struct, frozen=True, kw_only=True):
    """What is looked at in a block. `validators`: the set of the session that it starts, if it starts one.

    That `hash` is the hash of the block's content is for the caller to check: the chain's own rule.
    """

    hash: bytes
    parent: bytes
    number: int
    epoch: int
    epoch_start: int
    group_transactions: Sequence[bytes] = ()
    epoch_signature: bytes | None = None
    validators: Sequence[Candidate] | None = None


class BrokenHandover(Exception):
    """A block that does not follow. `reason`: parent | epoch | unsigned | signature."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"block {number}: {reason}")
        self.number = number
        self.reason = reason


class LightClient:
    """Takes the blocks of one chain in order, from the child of genesis on, and knows who serves."""

    def __init__(self, genesis: bytes, validators: Sequence[Candidate], parameters: Parameters, verify: Verify) -> None:
        self.genesis = genesis
        self.now = Serving()
        self.signed = 0
        self._parameters = parameters
        self._verify = verify
        # The last ones alone: what no block asks for any more is forgotten.
        self._hashes = {0: genesis}
        self._number = 0
        # (first block, validators), ascending.
        self._sessions: list[tuple[int, Sequence[Candidate]]] = [(0, validators)]

    def hash_at(self, number: int) -> bytes | None:
        """None for a block that has not come yet, or is far behind the last one."""
        return self._hashes.get(number)

    def validators_at(self, number: int) -> Sequence[Candidate] | None:
        return next((validators for start, validators in reversed(self._sessions) if start <= number), None)

    def take(self, block: SignedBlock) -> bool:
        """Whether a group was accepted by the block. Raises BrokenHandover."""
        if block.number != self._number + 1 or block.parent != self._hashes[self._number]:
            raise BrokenHandover(block.number, "parent")
        if (block.epoch, block.epoch_start) != (self.now.epoch, self.now.epoch_start):
            raise BrokenHandover(block.number, "epoch")
        self._check_signature(block)
        if block.validators is not None:
            self._sessions.append((block.number, block.validators))
        ground = Ground(
            number=block.number,
            epoch_start=self.now.epoch_start,
            parameters=self._parameters,
            derive=self._derive,
        )
        verdicts = judge_block(block.group_transactions, ground, self._verify)
        self._append(block)
        accepted = next((verdict for verdict in verdicts if verdict.error is None), None)
        if accepted is not None:
            group = acceptance_of(accepted, block=block.hash, number=block.number, before=self.now)
            self.now = Serving(epoch=group.epoch, epoch_start=group.number, group=group)
        return accepted is not None

    def _append(self, block: SignedBlock) -> None:
        self._number = block.number
        self._hashes[block.number] = block.hash
        oldest = block.number - asked_back(self._parameters)
        self._hashes.pop(oldest - 1, None)
        while len(self._sessions) > 1 and self._sessions[1][0] <= oldest:
            self._sessions.pop(0)

    def _derive(self, attempt: Attempt) -> Terms | None:
        return derive(self, self.now, self._parameters, attempt)

    def _check_signature(self, block: SignedBlock) -> None:
        group = self.now.group
        if group is None:
            return
        if block.epoch_signature is None:
            raise BrokenHandover(block.number, "unsigned")
        if not is_block_signed(block.epoch_signature, chain=self.genesis, epoch=group.epoch, block=block.hash, key=group.key):
            raise BrokenHandover(block.number, "signature")
        self.signed += 1


def verify_epochs(
    blocks: Iterable[SignedBlock], *, genesis: bytes, validators: Sequence[Candidate], parameters: Parameters, verify: Verify
) -> LightClient:
    """The light client at the end of the blocks. Raises BrokenHandover."""
    client = LightClient(genesis, validators, parameters, verify)
    for block in blocks:
        client.take(block)
    return client
