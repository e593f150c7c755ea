"""Development keys: from one seed, always the same, and their signatures are ordinary ones."""

import hashlib

import pytest
import sr25519
from hypothesis import given
from hypothesis import strategies as st

from messages.polkadot import Scheme
from overseer.feeds import schnorrkel
from overseer.feeds.keyring import Key, KeyFileError, Keyring, derive
from overseer.subsystem import Check
from overseer.verification import verify_check


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=400))
def test_a_deterministic_sr25519_signature_verifies_natively_and_is_the_same_twice(seed: bytes, message: bytes) -> None:
    public, secret = schnorrkel.pair_from_seed(seed)
    signature = schnorrkel.sign(public, secret, message)
    assert sr25519.verify(signature, message, public)
    assert not sr25519.verify(signature, message + b"x", public)
    assert schnorrkel.sign(public, secret, message) == signature


@given(seed=st.binary(min_size=32, max_size=32))
def test_the_native_secret_times_the_base_point_is_the_native_public_key(seed: bytes) -> None:
    public, secret = schnorrkel.pair_from_seed(seed)
    assert schnorrkel._times_base(int.from_bytes(secret[:32], "little")) == public


def test_the_permutation_is_that_of_sha3() -> None:
    state = bytearray(200)
    state[0] ^= 0x06
    state[135] ^= 0x80
    schnorrkel._keccak_f(state)
    assert bytes(state[:32]) == hashlib.sha3_256(b"").digest()


def test_two_messages_never_share_a_nonce() -> None:
    key = Key(Scheme.SR25519, bytes(32))
    assert key.sign(b"one")[:32] != key.sign(b"two")[:32]


def test_a_seed_gives_the_same_keys_of_both_schemes_and_a_prefix_of_more_keys() -> None:
    keys = Keyring.from_seed("a seed", 8, ed25519_every=4)
    assert [k.scheme for k in keys] == [Scheme.SR25519] * 3 + [Scheme.ED25519] + [Scheme.SR25519] * 3 + [Scheme.ED25519]
    assert keys.validators == Keyring.from_seed("a seed", 20, ed25519_every=4).validators[:8]
    assert not {k.public for k in keys} & {k.public for k in Keyring.from_seed("another", 8)}
    for key in keys:
        assert verify_check(Check(key.scheme.value, key.public, b"message", key.sign(b"message")))


def test_paths_that_only_join_alike_derive_different_bytes() -> None:
    assert derive("s", "ab", "c") != derive("s", "a", "bc")
    assert derive("s", 1) == derive("s", "1")


def test_a_key_file_gives_the_keys_back() -> None:
    keys = Keyring.from_seed("a seed", 4, ed25519_every=2)
    assert Keyring.from_json(keys.to_json()).validators == keys.validators


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"keys": [{"scheme": "rsa", "seed": "00"}]}',
        '{"keys": [{"scheme": "sr25519", "seed": "zz"}]}',
        '{"keys": [{"scheme": "sr25519", "seed": "00"}]}',
        '{"keys": [], "more": 1}',
    ],
)
def test_what_is_no_key_file_is_refused(text: str) -> None:
    with pytest.raises(KeyFileError):
        Keyring.from_json(text)
