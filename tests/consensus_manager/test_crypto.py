"""The crypto against independent ones: `chia_rs` for signatures, plain integers for Feldman and Lagrange."""

import copy
import json
import pickle
from random import Random

import msgspec
import pytest
from chia_rs import AugSchemeMPL, G1Element, G2Element
from chia_rs import PrivateKey as ChiaKey
from dkg_kit import drawn, wallet
from dkg_network import Network
from hypothesis import given
from hypothesis import strategies as st

from messages.codec import encode_value
from messages.consensus_signing import block_payload, statement_payload
from subsystems.consensus_manager.crypto.boxes import box_public, box_share, ephemeral_keys, open_box, seal, unseal
from subsystems.consensus_manager.crypto.curve import (
    GENERATOR,
    MalformedPoint,
    Scalar,
    decode_point,
    decode_scalar,
    decode_signature,
    evaluate_points,
)
from subsystems.consensus_manager.crypto.dealing import deal_from, is_sound, open_share, shown_share, shown_share_holds
from subsystems.consensus_manager.crypto.feldman import (
    commit,
    interpolation_weights,
    prove_knowledge,
    share_holds,
    share_of,
    shows_knowledge,
)
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.crypto.threshold import (
    combine,
    group_signature_holds,
    hash_message,
    partial_holds,
    partial_signature,
)
from subsystems.consensus_manager.outcome import statement

# The order of the group, and the field's prime: of the curve's definition.
ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
PRIME = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB

POINT = (GENERATOR * Scalar(7)).to_compressed_bytes()
IDENTITY = b"\xc0" + bytes(47)


def polynomial(random: Random, degree: int) -> list[int]:
    return [random.randrange(1, ORDER) for _ in range(degree + 1)]


def plain_value(coefficients: list[int], x: int) -> int:
    """The slow way."""
    return sum(c * pow(x, k, ORDER) for k, c in enumerate(coefficients)) % ORDER


def plain_lagrange(points: dict[int, int]) -> int:
    """The value at 0, the slow way: by inverses modulo the order."""
    total = 0
    for x, y in points.items():
        term = y
        for other in points:
            if other != x:
                term = term * other * pow(other - x, -1, ORDER) % ORDER
        total += term
    return total % ORDER


def secret_polynomial(coefficients: list[int]) -> Secret[list[Scalar]]:
    return Secret([Scalar(c) for c in coefficients])


# ------------------------------------------------------------------------------------------------ what is taken


def off_subgroup() -> bytes:
    """A point of the curve that is not in the subgroup: almost every one."""
    x = 1
    while True:
        square = (x**3 + 4) % PRIME
        root = pow(square, (PRIME + 1) // 4, PRIME)
        if root * root % PRIME == square:
            return bytes([0x80 | (0x20 if root > PRIME // 2 else 0)]) + x.to_bytes(48, "big")[1:]
        x += 1


def beyond_the_prime() -> bytes:
    """A point of the subgroup with the prime added to its coordinate: a second form of the same point, if it were taken."""
    point, one = GENERATOR, GENERATOR
    while True:
        data = point.to_compressed_bytes()
        x = int.from_bytes(bytes([data[0] & 0x1F]) + data[1:], "big")
        if x + PRIME < 1 << 381:
            moved = (x + PRIME).to_bytes(48, "big")
            return bytes([moved[0] | data[0] & 0xE0]) + moved[1:]
        point = point + one


@pytest.mark.parametrize(
    "data",
    [
        IDENTITY,
        b"\xe0" + bytes(47),
        b"\xc0" + bytes(46) + b"\x01",
        bytes(48),
        POINT[:-1],
        POINT + b"\x00",
        bytes([POINT[0] & 0x7F]) + POINT[1:],
        b"\x9f" + b"\xff" * 47,
        off_subgroup(),
        beyond_the_prime(),
    ],
)
def test_E20_the_identity_points_outside_the_subgroup_and_second_forms_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedPoint):
        decode_point(data)


def test_E20_a_point_of_the_subgroup_is_taken_in_its_one_form() -> None:
    assert decode_point(POINT).to_compressed_bytes() == POINT
    with pytest.raises(MalformedPoint):
        decode_signature(b"\xc0" + bytes(95))
    with pytest.raises(MalformedPoint):
        decode_signature(POINT * 2)


@pytest.mark.parametrize("number", [ORDER, ORDER + 1, 2**256 - 1])
def test_E20_a_scalar_that_is_not_below_the_order_is_refused(number: int) -> None:
    assert int(decode_scalar((ORDER - 1).to_bytes(32, "big"))) == ORDER - 1
    with pytest.raises(MalformedPoint):
        decode_scalar(number.to_bytes(32, "big"))
    with pytest.raises(MalformedPoint):
        decode_scalar(bytes(31))


def test_E20_a_deal_with_such_a_point_or_proof_is_not_sound() -> None:
    dealt = deal_from(Secret(b"s" * 32), session=drawn("a"), dealer=0, degree=2, receivers=[box_public(Secret(b"r" * 32))] * 4)
    good = tuple(dealt.commitments)
    assert is_sound(drawn("a"), 0, good, dealt.proof)
    assert not is_sound(drawn("a"), 0, (*good[:2], IDENTITY), dealt.proof)
    assert not is_sound(drawn("a"), 0, (*good[:2], off_subgroup()), dealt.proof)
    assert not is_sound(drawn("a"), 0, good, dealt.proof[:32] + ORDER.to_bytes(32, "big"))
    assert not is_sound(drawn("a"), 0, good, b"\xff" * 32 + dealt.proof[32:])


# ------------------------------------------------------------------------------------------------ Feldman and Lagrange


@pytest.mark.parametrize("seed", range(5))
def test_E06_shares_and_commitments_are_what_plain_integers_give(seed: int) -> None:
    random = Random(seed)
    degree = random.randint(1, 6)
    coefficients = polynomial(random, degree)
    secret = secret_polynomial(coefficients)
    commitments = commit(secret)
    assert commitments == [GENERATOR * Scalar(c) for c in coefficients]
    for member in range(degree + 3):
        share = share_of(secret, member)
        assert int(share.reveal()) == plain_value(coefficients, member + 1)
        assert share_holds(share, commitments, member)
        assert evaluate_points(commitments, member + 1) == GENERATOR * Scalar(plain_value(coefficients, member + 1))
        assert not share_holds(share, commitments, member + 1)
        assert not share_holds(Secret(share.reveal() + Scalar(1)), commitments, member)


@given(members=st.sets(st.integers(0, 60), min_size=1, max_size=12), seed=st.integers(0, 2**32))
def test_E06_interpolation_is_what_plain_integers_give(members: set[int], seed: int) -> None:
    values = {member + 1: Random(f"{seed} {member}").randrange(ORDER) for member in members}
    ordered = sorted(members)
    total = Scalar(0)
    for member, weight in zip(ordered, interpolation_weights(ordered), strict=True):
        total = total + Scalar(values[member + 1]) * weight
    assert int(total) == plain_lagrange(values)


def test_E06_degree_plus_one_shares_give_the_secret_and_degree_do_not() -> None:
    coefficients = polynomial(Random(1), 4)
    shares = {x: plain_value(coefficients, x) for x in range(1, 8)}
    assert plain_lagrange({x: shares[x] for x in (1, 2, 4, 6, 7)}) == coefficients[0]
    assert plain_lagrange({x: shares[x] for x in (1, 2, 4, 6)}) != coefficients[0]
    with pytest.raises(ValueError, match="distinct"):
        interpolation_weights([1, 1])
    with pytest.raises(ValueError, match="0 members"):
        interpolation_weights([])


def test_a_proof_of_knowledge_is_for_one_point_and_one_place() -> None:
    secret, nonce = Secret(Scalar(12345)), Secret(Scalar(999))
    public = GENERATOR * secret.reveal()
    proof = prove_knowledge(secret, nonce, context=b"here", public=public)
    assert shows_knowledge(proof, context=b"here", public=public)
    assert not shows_knowledge(proof, context=b"there", public=public)
    assert not shows_knowledge(proof, context=b"here", public=public + GENERATOR)
    assert not shows_knowledge(proof[:-1] + bytes([proof[-1] ^ 1]), context=b"here", public=public)


# ------------------------------------------------------------------------------------------------ signatures


def test_E06_a_group_signature_verifies_in_chia_rs_and_chias_verifies_here() -> None:
    network = Network(4, seed=3).run()
    progress, transaction = network.progress, network.transaction
    assert progress.key is not None
    assert transaction is not None
    payload = statement_payload(statement(network.terms, progress.key))
    key, signature = G1Element.from_bytes(transaction.key), G2Element.from_bytes(transaction.signature)
    assert AugSchemeMPL.verify(key, payload, signature)
    assert not AugSchemeMPL.verify(key, payload + b"!", signature)
    theirs = ChiaKey.from_bytes((123456789).to_bytes(32, "big"))
    block = block_payload(chain=drawn("c"), epoch=3, block=drawn("b"))
    assert group_signature_holds(bytes(theirs.get_g1()), block, bytes(AugSchemeMPL.sign(theirs, block)))


def test_E06_any_degree_plus_one_partials_give_the_same_signature_as_the_whole_key() -> None:
    random = Random(5)
    coefficients = polynomial(random, 4)
    secret = secret_polynomial(coefficients)
    key = (GENERATOR * Scalar(coefficients[0])).to_compressed_bytes()
    hashed = hash_message(key, b"message")
    partials = {member: partial_signature(share_of(secret, member), hashed) for member in range(7)}
    whole = partial_signature(Secret(Scalar(coefficients[0])), hashed)
    assert bytes(AugSchemeMPL.sign(ChiaKey.from_bytes(coefficients[0].to_bytes(32, "big")), b"message")) == whole
    for _ in range(4):
        chosen = random.sample(range(7), 5)
        assert combine({member: partials[member] for member in chosen}, 4) == whole
    assert group_signature_holds(key, b"message", whole)
    with pytest.raises(ValueError, match="5 are needed"):
        combine({member: partials[member] for member in range(4)}, 4)
    assert not group_signature_holds(key, b"message", combine({member: partials[member] for member in range(4)}, 3))


def test_a_partial_signature_holds_for_its_member_and_message_alone() -> None:
    coefficients = polynomial(Random(6), 2)
    secret = secret_polynomial(coefficients)
    key = (GENERATOR * Scalar(coefficients[0])).to_compressed_bytes()
    hashed = hash_message(key, b"message")
    public = [GENERATOR * share_of(secret, member).reveal() for member in range(2)]
    partial = partial_signature(share_of(secret, 0), hashed)
    assert partial_holds(public[0], hashed, partial)
    assert not partial_holds(public[1], hashed, partial)
    assert not partial_holds(public[0], hash_message(key, b"another"), partial)
    assert not partial_holds(public[0], hash_message(POINT, b"message"), partial)
    assert not partial_holds(public[0], hashed, b"\xc0" + bytes(95))
    assert not group_signature_holds(IDENTITY, b"message", b"\xc0" + bytes(95))


# ------------------------------------------------------------------------------------------------ deals, boxes, secrets


def test_a_deal_made_again_from_its_seed_is_the_same_bytes() -> None:
    receivers = [wallet(n).identity.box for n in range(4)]
    first = deal_from(Secret(b"s" * 32), session=drawn("a"), dealer=1, degree=2, receivers=receivers)
    again = deal_from(Secret(b"s" * 32), session=drawn("a"), dealer=1, degree=2, receivers=receivers)
    assert first == again
    for other in (
        deal_from(Secret(b"t" * 32), session=drawn("a"), dealer=1, degree=2, receivers=receivers),
        deal_from(Secret(b"s" * 32), session=drawn("b"), dealer=1, degree=2, receivers=receivers),
        deal_from(Secret(b"s" * 32), session=drawn("a"), dealer=2, degree=2, receivers=receivers),
    ):
        assert not set(first.commitments) & set(other.commitments)
        assert not set(first.boxes) & set(other.boxes)


def test_a_share_opens_for_its_receiver_at_its_place_alone() -> None:
    session, seed = drawn("a"), Secret(b"s" * 32)
    dealt = deal_from(seed, session=session, dealer=1, degree=2, receivers=[wallet(n).identity.box for n in range(4)])
    for member in range(4):
        box = wallet(member).box
        at = {"dealer": 1, "member": member, "ephemeral": dealt.ephemeral}
        share = open_share(dealt.boxes[member], session=session, receiver=box, **at)
        assert share is not None
        shown = shown_share(seed, session=session, dealer=1, degree=2, member=member)
        assert share.reveal().to_be_bytes() == shown
        assert shown_share_holds(shown, tuple(dealt.commitments), member)
        assert not shown_share_holds(shown, tuple(dealt.commitments), (member + 1) % 4)
        assert not shown_share_holds(b"\xff" * 32, tuple(dealt.commitments), member)
        assert open_share(dealt.boxes[member], session=drawn("b"), receiver=box, **at) is None
        assert open_share(dealt.boxes[member], session=session, receiver=box, **(at | {"dealer": 2})) is None
        assert open_share(dealt.boxes[member], session=session, receiver=wallet(9).box, **at) is None


def test_a_box_key_that_keeps_nothing_secret_stops_no_deal_and_opens_nothing() -> None:
    weak = bytes(32)
    dealt = deal_from(Secret(b"s" * 32), session=drawn("a"), dealer=0, degree=2, receivers=[weak, wallet(1).identity.box])
    assert len(dealt.boxes) == 2
    at = {"session": drawn("a"), "dealer": 0, "receiver": wallet(1).box}
    assert open_share(dealt.boxes[1], member=1, ephemeral=dealt.ephemeral, **at) is not None
    assert open_share(dealt.boxes[1], member=1, ephemeral=weak, **at) is None
    public, secret = ephemeral_keys(Secret(b"e" * 32))
    with pytest.raises(ValueError, match="no key"):
        box_share(b"x" * 32, place=b"", receiver=weak, ephemeral=secret)
    sealed = box_share(b"x" * 32, place=b"p", receiver=box_public(Secret(b"r" * 32)), ephemeral=secret)
    opened = open_box(sealed, place=b"p", ephemeral=public, receiver=Secret(b"r" * 32))
    assert opened is not None
    assert opened.reveal() == b"x" * 32


def test_what_is_sealed_opens_with_its_key_and_label_alone() -> None:
    key = Secret(b"k" * 32)
    sealed = seal(Secret(b"secret"), label=b"seed", key=key)
    assert sealed == seal(Secret(b"secret"), label=b"seed", key=key)
    assert b"secret" not in sealed
    opened = unseal(sealed, label=b"seed", key=key)
    assert opened is not None
    assert opened.reveal() == b"secret"
    assert unseal(sealed, label=b"share", key=key) is None
    assert unseal(sealed, label=b"seed", key=Secret(b"j" * 32)) is None
    assert unseal(sealed[:-1] + b"\x00", label=b"seed", key=key) is None
    assert unseal(b"", label=b"seed", key=key) is None
    assert sealed[:24] != seal(Secret(b"secreu"), label=b"seed", key=key)[:24]


class Holder(msgspec.Struct):
    name: str
    key: Secret[bytes]


def test_a_secret_is_refused_by_the_codec_and_shown_by_nothing() -> None:
    secret = Secret(b"the secret itself")
    holder = Holder("n", secret)
    for write in (encode_value, msgspec.json.encode, msgspec.to_builtins, json.dumps, pickle.dumps, copy.deepcopy):
        for value in (secret, [secret], holder):
            with pytest.raises(TypeError):
                write(value)
    with pytest.raises(TypeError):
        copy.copy(secret)
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>30}", repr(holder), repr([secret]), repr({"k": secret})):
        assert "the secret" not in text
    with pytest.raises(TypeError):
        _ = secret == Secret(b"the secret itself")
    with pytest.raises(TypeError):
        hash(secret)
    assert not hasattr(secret, "__dict__")
