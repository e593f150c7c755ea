"""The contract as CDDL: the published document is the one the types give, complete and closed (independent readers: test_cddl_readers)."""

import re
from pathlib import Path

import pytest
from message_values import CONTRACT

from messages.cddl import document, one_line

GOLDEN = Path(__file__).parent.parent / "golden" / "messages.cddl"
PRELUDE = {"bool", "bstr", "null", "tstr"}


def test_the_contract_is_the_published_one() -> None:
    if document() != GOLDEN.read_text():
        pytest.fail(
            "the messages changed: raise the version of what old readers cannot read (with an upcaster), "
            "then run: python -m messages.cddl > tests/golden/messages.cddl"
        )


def rules() -> dict[str, str]:
    """Rule name -> definition, without comments."""
    text = re.sub(r"^;.*$", "", document(), flags=re.M)
    found = re.findall(r"^([a-z][\w.]*) = (.*?)(?=^[a-z][\w.]* = |\Z)", text, flags=re.M | re.S)
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), "a rule is defined twice"
    return dict(found)


def test_every_message_has_a_rule() -> None:
    assert {spec.key for spec in CONTRACT} <= set(rules())


def test_every_rule_that_is_used_is_defined_and_every_shared_one_is_used() -> None:
    defined = rules()
    used: set[str] = set()
    for definition in defined.values():
        bare = re.sub(r"^  (\? )?[a-z_0-9]+: ", " ", definition, flags=re.M)
        bare = re.sub(r'"[^"]*"|\.(size|regexp)\b', " ", bare)
        used |= set(re.findall(r"[a-z][\w.]*", bare))
    assert used <= set(defined) | PRELUDE
    assert set(defined) - used <= {spec.key for spec in CONTRACT} | {"u8", "u16", "u32", "u64", "bytes16", "bytes32", "bytes64"}


def test_bounds_rows_enums_options_and_null_are_told() -> None:
    found = rules()
    assert found["chain_api.cmd.finalize_block"].strip() == '{\n  "hash": bytes32,\n}'
    assert found["vote"].strip() == "[\n  validator: u32,\n  kind: vote_kind,\n  signature: bytes64,\n  ? candidates: [* bytes32],\n]"
    assert found["side"].strip() == '"valid" / "invalid"'
    assert '  ? "pov": bytes32 / null,' in found["votes_db.cmd.register_vote"]
    assert '  ? "validity_votes": [0*2000 attestation],' in found["votes_db.cmd.register_vote"]
    assert '  ? "backing_validators": bstr .size (0..8192),' in found["votes_db.cmd.register_vote"]
    assert '  "k": 0..1000,' in found["chain_api.qry.ancestors_of"]


def test_one_message_on_one_line_says_the_same_as_the_document() -> None:
    found = rules()
    for spec in CONTRACT:
        line = one_line(spec)
        assert "\n" not in line
        assert line.startswith(f"{spec.key} = ")
        definition = " ".join(line.strip() for line in found[spec.key].strip().splitlines())
        # There a type of several owners has its owner's name before it.
        if not re.search(r"\b[a-z_]+\.[a-z]", definition):
            assert line.startswith(f"{spec.key} = {definition.replace(', }', ' }').replace(', ]', ' ]')}"), line


def test_one_message_on_one_line_brings_its_types() -> None:
    (spec,) = (spec for spec in CONTRACT if spec.key == "elections.cmd.hold_tokens")
    assert one_line(spec) == 'elections.cmd.hold_tokens = { "tokens": [0*5000 token_mapping] } token_mapping = [ id: u64, block: u64 ]'
