"""A chain's handovers from genesis, checked by the blocks in a node's journal: what `overseer verify-epochs` tells."""

from pathlib import Path

import msgspec

from messages.chain_api import ImportBlock
from messages.chain_events import BestChainMoved, BlockRecorded
from overseer.consensus.chain import hash_of, light_client_of, signed_block, validators_of
from overseer.consensus.roster import read_network
from overseer.rocks.reader import RocksReader
from overseer.runner import journal
from subsystems.consensus_manager.light_client import BrokenHandover
from subsystems.consensus_manager.parameters import Parameters

__all__ = ["BrokenChain", "EpochReport", "EpochsReport", "verified_epochs"]


class BrokenChain(Exception):
    """There is no chain of a development network to be checked from genesis on."""


class EpochReport(msgspec.Struct, frozen=True, kw_only=True):
    """A group: the number of the block that accepted it, its key (hexadecimal), its members' indices in the validator set."""

    epoch: int
    block: int
    key: str
    members: list[int]


class EpochsReport(msgspec.Struct, frozen=True, kw_only=True):
    """`broken`: the first block that does not follow, and why; "" when all do."""

    blocks: int
    signed: int
    epochs: list[EpochReport]
    broken: str = ""


def verified_epochs(store: Path, nodes: Path, *, genesis: bytes, parameters: Parameters) -> EpochsReport:
    """By the blocks that a `chain_api` has recorded. Raises BrokenChain, BadNetwork, StoreError."""
    described = list(read_network(nodes).values())
    client = light_client_of(genesis, described, parameters)
    blocks = _chain(*_recorded(store), genesis)
    found: list[EpochReport] = []
    broken = ""
    checked = 0
    for block in blocks:
        if hash_of(block) != block.hash:
            broken = f"block {block.number}: its hash is not that of its content"
            break
        if block.session_start is not None and (block.number != 1 or block.session_start != validators_of(described)):
            broken = f"block {block.number}: validators"
            break
        try:
            accepted = client.take(signed_block(block))
        except BrokenHandover as error:
            broken = str(error)
            break
        checked, group = block.number, client.now.group
        if accepted and group is not None:
            members = [member.validator for member in group.members]
            found.append(EpochReport(epoch=group.epoch, block=group.number, key=group.key.hex(), members=members))
    return EpochsReport(blocks=checked, signed=client.signed, epochs=found, broken=broken)


def _recorded(store: Path) -> tuple[dict[bytes, ImportBlock], bytes]:
    """All blocks in the journal, by hash; and which of them is the best."""
    reader = RocksReader.open_read_only(store)
    found: dict[bytes, ImportBlock] = {}
    best = b""
    try:
        if journal.first_index(reader) > 1:
            raise BrokenChain(f"the journal in {store} does not begin with genesis: it was shortened behind a checkpoint")
        for record, _ in journal.records(reader):
            for row in record.events:
                if row.key not in (BlockRecorded.spec.key, BestChainMoved.spec.key):
                    continue
                match journal.event_of(reader, row, record.index):
                    case BlockRecorded(block=block):
                        found[block.hash] = block
                    case BestChainMoved(best=ref):
                        best = ref.hash
                    case _:
                        pass
    finally:
        reader.close()
    return found, best


def _chain(blocks: dict[bytes, ImportBlock], best: bytes, genesis: bytes) -> list[ImportBlock]:
    """From the child of genesis to the best block: a fork may be higher, and blacklisted."""
    at = blocks.get(best)
    if at is None:
        raise BrokenChain("the journal has no blocks yet")
    line: list[ImportBlock] = []
    while at is not None:
        line.append(at)
        at = blocks.get(at.parent)
    if line[-1].parent != genesis:
        raise BrokenChain(f"the chain does not begin with genesis {genesis.hex()}")
    return line[::-1]
