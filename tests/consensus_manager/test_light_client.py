"""The chain of handovers, by its blocks alone; and the group's signature of blocks."""

import pytest
from chain_kit import ElectionNetwork
from chia_rs import AugSchemeMPL, G1Element, G2Element
from dkg_kit import drawn, identity, verify_check
from dkg_network import Network
from msgspec.structs import replace

from messages.codec import encode
from messages.consensus_manager import Attempt
from messages.consensus_signing import block_payload
from subsystems.consensus_manager.blocks import block_signature, is_block_signed, partial_counts, sign_block
from subsystems.consensus_manager.deriving import derive
from subsystems.consensus_manager.light_client import BrokenHandover, LightClient, SignedBlock, verify_epochs
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.schedule import asked_back
from subsystems.consensus_manager.selection import Candidate

GENESIS = drawn("chain")
PARAMETERS = Parameters(interval=3, min_confirmations=3)
VALIDATORS = [Candidate(index=n, identity=identity(n)) for n in range(6)]


def parts(network: Network, epoch: int, block: bytes):
    key = network.progress.key
    assert key is not None
    for node in network.nodes:
        share = node.share()
        if share is None or node.mine is None:
            continue
        yield sign_block(share, chain=GENESIS, epoch=epoch, block=block, key=key.key, place=node.mine.place)


def signed(network: Network, epoch: int, block: bytes) -> bytes:
    signature = block_signature(list(parts(network, epoch, block))[:3], degree=2)
    assert signature is not None
    return signature


@pytest.fixture(scope="module")
def chain() -> list[SignedBlock]:
    """Genesis, then blocks until the second group has signed some."""
    client = LightClient(GENESIS, VALIDATORS, PARAMETERS, verify_check)
    made: list[SignedBlock] = []
    group: Network | None = None
    while len(made) < 13:
        number, now = len(made) + 1, client.now
        due = now.epoch_start + PARAMETERS.interval
        bodies: list[bytes] = []
        network = None
        if number == due + 2:
            terms = derive(client, now, PARAMETERS, Attempt(now.epoch_start, due, 0, 0))
            assert terms is not None
            network = ElectionNetwork(terms).run()
            assert network.transaction is not None
            bodies = [encode(network.transaction)]
        block_hash = drawn("light block", number, bodies)
        block = SignedBlock(
            hash=block_hash,
            parent=made[-1].hash if made else GENESIS,
            number=number,
            epoch=now.epoch,
            epoch_start=now.epoch_start,
            group_transactions=bodies,
            epoch_signature=None if group is None else signed(group, now.epoch, block_hash),
        )
        assert client.take(block) == bool(bodies)
        made.append(block)
        group = network or group
    return made


def checked(blocks: list[SignedBlock]) -> LightClient:
    return verify_epochs(blocks, genesis=GENESIS, validators=VALIDATORS, parameters=PARAMETERS, verify=verify_check)


def test_a_chain_of_handovers_is_accepted_from_genesis(chain: list[SignedBlock]) -> None:
    client = checked(chain)
    assert client.now.epoch == 2
    assert client.now.epoch_start == 10
    assert client.signed == 8


def test_the_accepting_block_is_signed_by_the_group_before_and_its_child_by_the_new_one(chain: list[SignedBlock]) -> None:
    accepting, child = chain[9], chain[10]
    assert accepting.group_transactions
    assert (accepting.epoch, child.epoch) == (1, 2)
    client = checked(chain[:9])
    assert client.now.group is not None
    assert accepting.epoch_signature is not None
    key = client.now.group.key
    assert is_block_signed(accepting.epoch_signature, chain=GENESIS, epoch=1, block=accepting.hash, key=key)
    assert child.epoch_signature is not None
    assert not is_block_signed(child.epoch_signature, chain=GENESIS, epoch=2, block=child.hash, key=key)


def test_what_does_not_follow_is_refused_by_its_number_and_reason(chain: list[SignedBlock]) -> None:
    for place, changed, reason in (
        (6, replace(chain[6], epoch_signature=None), "unsigned"),
        (6, replace(chain[6], epoch_signature=chain[7].epoch_signature), "signature"),
        (9, replace(chain[9], epoch_signature=chain[10].epoch_signature), "signature"),
        (6, replace(chain[6], epoch=2), "epoch"),
        (6, replace(chain[6], epoch_start=4), "epoch"),
        (6, replace(chain[6], parent=GENESIS), "parent"),
        (6, chain[7], "parent"),
    ):
        with pytest.raises(BrokenHandover) as broken:
            checked([*chain[:place], changed, *chain[place + 1 :]])
        assert (broken.value.number, broken.value.reason) == (changed.number, reason)


def test_a_handover_that_was_left_out_is_noticed_at_the_next_block(chain: list[SignedBlock]) -> None:
    with pytest.raises(BrokenHandover) as broken:
        checked([*chain[:4], replace(chain[4], group_transactions=()), *chain[5:]])
    assert (broken.value.number, broken.value.reason) == (6, "epoch")


def test_it_keeps_no_more_of_a_long_chain_than_blocks_ask_for() -> None:
    parameters = Parameters(interval=10_000, min_confirmations=3)
    client = LightClient(GENESIS, VALIDATORS, parameters, verify_check)
    hashes = [GENESIS, *(drawn("long", number) for number in range(1, 501))]
    for number in range(1, 501):
        # Each begins a session.
        block = SignedBlock(
            hash=hashes[number], parent=hashes[number - 1], number=number, epoch=0, epoch_start=0, validators=VALIDATORS[: number % 6]
        )
        client.take(block)
    oldest = 500 - asked_back(parameters)
    assert [number for number in range(501) if client.hash_at(number) is not None] == list(range(oldest, 501))
    assert [client.validators_at(number) for number in (oldest, 500)] == [VALIDATORS[: number % 6] for number in (oldest, 500)]
    assert client.validators_at(oldest - 1) is None


def test_any_n_minus_f_members_sign_a_block_and_fewer_do_not() -> None:
    network = Network(4, seed=3).run()
    key = network.progress.key
    assert key is not None
    block = drawn("b")
    made = list(parts(network, 7, block))
    assert all(partial_counts(part, chain=GENESIS, commitments=key.commitments) for part in made)
    assert block_signature(made[:2], degree=2) is None
    assert block_signature([made[0]] * 3, degree=2) is None
    signatures = {block_signature(made[skip:] + made[:skip][:-1], degree=2) for skip in range(2)}
    assert len(signatures) == 1
    signature = signatures.pop()
    assert signature is not None
    assert is_block_signed(signature, chain=GENESIS, epoch=7, block=block, key=key.key)
    payload = block_payload(chain=GENESIS, epoch=7, block=block)
    assert AugSchemeMPL.verify(G1Element.from_bytes(key.key), payload, G2Element.from_bytes(signature))
    for wrong in (
        replace(made[0], sender=1),
        replace(made[0], epoch=8),
        replace(made[0], block=drawn("c")),
        replace(made[0], partial=b"\xc0" + bytes(95)),
    ):
        assert not partial_counts(wrong, chain=GENESIS, commitments=key.commitments)
