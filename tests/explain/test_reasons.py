"""What `overseer explain --json` prints keeps its form: programs read it."""

import json
from pathlib import Path

import msgspec

from overseer.history.reasons import Explanation, Reason, every

GOLDEN = Path(__file__).parent.parent / "golden" / "explanation.json"


def test_the_json_of_an_explanation_keeps_its_form() -> None:
    """Fields may be added: then write the schema anew, and look at the difference."""
    assert json.loads(GOLDEN.read_text()) == msgspec.json.schema(list[Explanation])


def test_a_tree_is_walked_with_what_it_led_to() -> None:
    tree = [Reason(what="a", because=[Reason(what="b", led_to=[Reason(what="c")])], led_to=[Reason(what="d")]), Reason(what="e")]
    assert [each.what for each in every(tree)] == ["a", "b", "c", "d", "e"]
