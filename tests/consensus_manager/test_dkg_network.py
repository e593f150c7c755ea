"""DKGs of honest and faulty members under many seeds: what holds whatever they do, and in whatever order it is read."""

from random import Random

import pytest
from dkg_kit import verify_check
from dkg_lies import random_lies
from dkg_network import Network

from messages.codec import decode
from messages.consensus_manager import Deal, GroupTransaction
from messages.consensus_signing import statement_payload
from overseer.subsystem import Check
from subsystems.consensus_manager.crypto.curve import GENERATOR, G2Point, Scalar, decode_point, decode_signature
from subsystems.consensus_manager.crypto.dealing import decode_commitments
from subsystems.consensus_manager.crypto.feldman import interpolation_weights
from subsystems.consensus_manager.crypto.threshold import group_signature_holds, hash_message, partial_signature, public_share
from subsystems.consensus_manager.outcome import statement


def check_invariants(network: Network) -> None:
    """One key; all shares of honest members are of it; degree + 1 of them sign, degree do not; the transaction is right."""
    terms = network.terms
    for node in network.nodes:
        if node.honest and node.mine is not None:
            assert len({deal.signature for deal in network.said(Deal, node.number)}) <= 1, "an honest member dealt twice"
    progress = network.progress
    if progress.key is None:
        assert progress.transaction is None
        assert not any(node.share() for node in network.honest)
        return
    points = decode_commitments(tuple(progress.key.commitments))
    shares = {node.mine.place: share for node in network.honest if node.mine and (share := node.share())}
    for place, share in shares.items():
        assert GENERATOR * share.reveal() == public_share(points, place)
    payload = statement_payload(statement(terms, progress.key))
    hashed = hash_message(progress.key.key, payload)
    chosen = network.random.sample(sorted(shares), min(len(shares), terms.degree + 1))
    partials = {place: partial_signature(shares[place], hashed) for place in chosen}
    signature = weighed(partials)
    assert group_signature_holds(progress.key.key, payload, signature) == (len(chosen) == terms.degree + 1)
    check_transaction(network, payload)


def weighed(partials: dict[int, bytes]) -> bytes:
    """What these partial signatures give together, however many there are."""
    total = G2Point.identity()
    for (_, partial), weight in zip(sorted(partials.items()), interpolation_weights(sorted(partials)), strict=True):
        total += decode_signature(partial) * weight
    return total.to_compressed_bytes()


def check_transaction(network: Network, payload: bytes) -> None:
    progress, terms = network.progress, network.terms
    if progress.transaction is None:
        return
    assert progress.key is not None
    transaction = decode(GroupTransaction.spec, progress.transaction)
    assert transaction.key == progress.key.key
    assert group_signature_holds(transaction.key, payload, transaction.signature)
    signers = [approval.signer for approval in transaction.approvals]
    assert len(set(signers)) == len(signers) >= terms.size - terms.faulty_most
    for approval in transaction.approvals:
        assert verify_check(Check("ed25519", terms.members[approval.signer].identity.signing, payload, approval.signature))


def faulty_network(seed: int, *, faulty: int, size: int, patient: bool) -> Network:
    random = Random(seed)
    members = random.sample(range(size), faulty)
    return Network(
        size,
        seed=seed,
        lies={member: random_lies(random, size) for member in members},
        min_confirmations=size - (size - 1) // 3,
        patient=patient,
        restarts=random.choice([0.0, 0.05, 0.3]),
    )


SEEDS = 40


@pytest.mark.parametrize("seed", range(SEEDS))
def test_E19_with_f_faulty_members_the_dkg_completes_among_the_rest(seed: int) -> None:
    network = faulty_network(seed, faulty=1, size=4, patient=True).run()
    check_invariants(network)
    assert network.progress.transaction is not None


@pytest.mark.parametrize("seed", range(SEEDS))
def test_E19_with_2f_faulty_members_there_is_no_key_or_the_right_one(seed: int) -> None:
    check_invariants(faulty_network(seed, faulty=2, size=4, patient=True).run())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_E23_blocks_and_messages_in_any_order_give_the_same_outcome_everywhere(seed: int) -> None:
    check_invariants(faulty_network(seed, faulty=seed % 3, size=4, patient=False).run(8))


@pytest.mark.parametrize("seed", range(4))
def test_E19_with_f_faulty_members_of_seven_the_dkg_completes(seed: int) -> None:
    network = faulty_network(seed, faulty=2, size=7, patient=True).run()
    check_invariants(network)
    assert network.progress.transaction is not None


@pytest.mark.slow
@pytest.mark.parametrize("hundred", [0, 1, *(pytest.param(hundred, marks=pytest.mark.full) for hundred in range(2, 10))])
def test_what_holds_for_a_few_seeds_holds_for_a_thousand(hundred: int) -> None:
    for seed in range(hundred * 100, hundred * 100 + 100):
        size = 7 if seed % 10 == 0 else 4
        faults = (size - 1) // 3
        faulty, patient = ((faults, True), (2 * faults, True), (seed // 3 % (2 * faults + 1), False))[seed % 3]
        network = faulty_network(seed, faulty=faulty, size=size, patient=patient).run(5 if patient else 8)
        check_invariants(network)
        assert not (patient and faulty == faults) or network.progress.transaction is not None, seed


def test_a_scalar_of_the_key_is_never_known_but_by_interpolation() -> None:
    """The sum of the honest shares' interpolation is the discrete logarithm of the key: what the shares are shares of."""
    network = Network(4, seed=1).run()
    key = network.progress.key
    assert key is not None
    shares = [node.share() for node in network.nodes[:3]]
    total = Scalar(0)
    for share, weight in zip(shares, interpolation_weights([0, 1, 2]), strict=True):
        assert share is not None
        total = total + share.reveal() * weight
    assert GENERATOR * total == decode_point(key.key)
