"""`overseer explain` answers, for the demo's run, why a block is blacklisted, an item is back in its queue, and a group was revoked."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from messages.votes_db import RegisterVote
from overseer.demo.queues import tell_queue
from overseer.feeds.devchain import DevChain, Shape
from overseer.feeds.story import Send
from overseer.history.reasons import Explanation
from tests.explain.conftest import Kept

pytestmark = [pytest.mark.real, pytest.mark.slow]

DOCS = Path(__file__).parents[2] / "docs" / "explain.md"


def reasons(tree: Any) -> Iterator[Any]:
    """All reasons of a JSON answer."""
    for each in tree:
        yield each
        yield from reasons([*each["because"], *each["led_to"]])


def signed(answer: Any) -> dict[str, Any]:
    """Its signed votes, by signature."""
    return {each["vote"]["signature"]: each["vote"] for one in answer for each in reasons(one["reasons"]) if each["vote"]}


def sent() -> dict[str, tuple[int, str]]:
    """(validator, candidate) of every vote of the story, by its signature."""
    story = DevChain("demo", Shape(validators=10)).story(tell_queue)
    bundles = [step.message for step in story.steps if isinstance(step, Send) and isinstance(step.message, RegisterVote)]
    return {
        f"0x{vote.signature.hex()}": (vote.validator, f"0x{bundle.candidate_hash.hex()}")
        for bundle in bundles
        for vote in bundle.explicit_votes
    }


def against(answer: Any) -> dict[str, Any]:
    return {signature: vote for signature, vote in signed(answer).items() if vote["kind"] == "explicit_invalid"}


@pytest.mark.parametrize("kind", ["block", "item"])
def test_the_answer_comes_down_to_the_votes_that_were_sent(kept: Kept, kind: str) -> None:
    answer = kept.explain(kind, kept.questions[kind]["id"])
    votes, all_sent = against(answer), sent()
    # A supermajority of ten.
    assert len({vote["validator"] for vote in votes.values()}) >= 7
    assert {vote["verifies"] for vote in signed(answer).values()} == {True}
    assert {signature: (vote["validator"], vote["candidate"]) for signature, vote in votes.items()} == {
        signature: all_sent[signature] for signature in votes
    }
    assert len({vote["candidate"] for vote in votes.values()}) == 1
    # Where each came from: a message of the stream, somebody's command.
    arrived = [each for one in answer for each in reasons(one["reasons"]) if any(below["vote"] for below in each["because"])]
    assert arrived
    assert all(each["command_id"].startswith("demo-") and each["position"] and each["sender"] == "req_votes_db" for each in arrived)


def test_the_block_descends_from_one_that_is_convicted(kept: Kept) -> None:
    (answer,) = kept.explain("block", kept.questions["block"]["id"])
    (fell,) = [each for each in answer["reasons"] if each["what"].startswith("blacklisted")]
    assert "it arrived later, and descends from block" in fell["what"]
    path = fell["about"]["path"].split()
    assert (path[0], path[-1]) == (fell["about"]["root"], answer["id"])


def test_the_item_is_back_because_the_block_that_closed_its_round_is_blacklisted(kept: Kept) -> None:
    (answer,) = kept.explain("item", kept.questions["item"]["id"])
    course = [each["what"] for each in answer["reasons"]]
    assert next(what for what in course if what.startswith(("back", "executed"))) == "back in its queue"
    (back,) = [each for each in answer["reasons"] if each["what"] == "back in its queue"]
    told = " | ".join(each["what"] for each in reasons([back]))
    assert re.search(
        r"round 0 is revoked \| block \d+ 0x\w+ had closed it \| block \d+ 0x\w+ left the best chain .* it is itself convicted", told
    )


@pytest.mark.parametrize("folder", ["network", "network/n1"])
def test_the_group_is_revoked_by_three_validators_votes(kept: Kept, folder: str) -> None:
    """By all nodes' journals the votes are followed to the node that they were handed to, by one node's to that node's name."""
    revoked = kept.told["revoked"]
    (answer,) = kept.explain("group", str(revoked["group"]), folder=str(kept.place.data / folder))
    (gone,) = [
        each for each in answer["reasons"] if each["what"].startswith("revoked") and each["about"]["block"] == f"0x{revoked['block']}"
    ]
    votes = [each["vote"] for each in reasons([gone]) if each["vote"]]
    assert {vote["validator"] for vote in votes} == set(revoked["against"])
    assert {vote["verifies"] for vote in votes} == {True}
    assert {vote["candidate"] for vote in votes} == {f"0x{revoked['candidate']}"}
    ends = {each["ends"] for each in reasons([gone]) if each["ends"]}
    if folder == "network":
        assert ends == {"asked of votes_db by a client"}
        assert any(each["record"].startswith(f"{revoked['told']}/votes_db:") for each in reasons([gone]))
    else:
        assert len(ends) == 1
        assert f"node {revoked['told']} said it as votes_db:" in ends.pop()


def test_answers_are_of_the_types_they_are_said_to_be(kept: Kept) -> None:
    """And whatever is asked about is answered: each kind once."""
    (dispute,) = {vote["candidate"] for vote in against(kept.explain("block", kept.questions["block"]["id"])).values()}
    position = next(each["position"] for each in reasons(kept.explain("dispute", dispute)[0]["reasons"]) if each["position"])
    for kind, id in (
        ("dispute", dispute[:12]),
        ("validator", "1/3"),
        ("election", "mayor-2026"),
        ("election", "ingestion"),
        ("message", str(position)),
        ("block", "16"),
    ):
        answers = msgspec.convert(kept.explain(kind, id), list[Explanation])
        assert answers
        assert all(each.kind == kind and each.reasons for each in answers)


def test_an_election_on_sites_is_told_with_its_counts(kept: Kept) -> None:
    (answer,) = kept.explain("election", "mayor-2026")
    told = [each["what"] for each in answer["reasons"]]
    assert told[0].startswith("483 events, the same or fewer in 5 stores")
    assert any(what.startswith("240 ballots cast") for what in told)
    assert told[-1] == "round 1 stands: 235 of 240 ballots valid, 5 not"


def test_mistakes_are_named_with_a_remedy(kept: Kept) -> None:
    for arguments, problem in (
        (("block", "99999"), "no block of number 99999 is in this node's journals."),
        (("block", "0xfffffffff"), "no block begins with 0xfffffffff"),
        (("dispute", "nonsense"), "'nonsense' is no hash"),
        (("group", "1"), "group 1 is not in this node's journals"),
        (("item", "nowhere/0x12"), "no election 'nowhere' is in this node's stores"),
        (("message", "99999"), "nobody here recorded anything of message 99999"),
        (("validator", "77/1"), "session 77 has no validator 1"),
        (("block", "1", "--at", "n9"), "There is no node 'n9'"),
        (("block", "1", "--data-dir", "/nowhere"), "/nowhere is no folder."),
    ):
        done = kept.run(*arguments)
        assert (done.code, done.out) == (2, ""), done
        assert problem in done.error
        assert len(done.error.splitlines()) == 2, done.error


def test_for_people_it_is_a_tree_of_lines(kept: Kept) -> None:
    done = kept.place.run("explain", "block", kept.questions["block"]["id"], "--depth", "2", "--data-dir", str(kept.place.data))
    assert done.code == 0
    assert "── blacklisted: it arrived later, and descends" in done.out
    assert "is convicted, as it includes candidate" in done.out
    assert "explicit invalid" not in done.out
    assert "\x1b" not in done.out


# ------------------------------------------------------------------------------------------------ the documentation


def shape(line: str) -> str:
    """A line without what is another one in every run: hashes, times, numbers, and whether something comes behind it."""
    line = re.sub(r"0x[0-9a-f]+", "#", line.lstrip("│├└─ \u00a0"))
    line = re.sub(r"command [0-9a-z-]+", "command #", line)
    return re.sub(r"\bn\d\b", "n", re.sub(r"[\d:.]*\d", "N", line)).rstrip()


def examples() -> list[tuple[str, list[str]]]:
    """Each example of the page: the kind of thing asked about, and the lines that it shows."""
    found = re.findall(r"```text\n\$ overseer explain (\w+) .*?\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return [(kind, [line for line in text.splitlines() if line.strip() != "..."]) for kind, text in found]


def test_the_documentation_has_an_example_of_each_kind() -> None:
    assert sorted(kind for kind, _ in examples()) == ["block", "dispute", "election", "group", "item", "message", "validator"]
    assert [kind for kind, lines in examples() if len(lines) < 2] == []


@pytest.mark.parametrize("number", range(len(examples())))
def test_the_documentation_shows_what_is_printed(kept: Kept, number: int) -> None:
    """Every line of an example is printed, in that order, as `...` stands for some that are left out."""
    kind, lines = examples()[number]
    question = kept.questions.get(kind)
    ids = {"validator": "3/2", "election": "mayor-2026", "message": _deciding(kept), "dispute": _candidate(kept)}
    id, folder = (question["id"], question["folder"]) if question else (ids[kind], str(kept.place.data))
    done = kept.run(kind, id, folder=folder)
    printed = iter([shape(line) for line in done.out.splitlines()])
    for line in lines:
        assert shape(line) in printed, f"not printed, or not there: {line}\n{done.out}"


def _candidate(kept: Kept) -> str:
    (candidate,) = {vote["candidate"] for vote in against(kept.explain("item", kept.questions["item"]["id"])).values()}
    return candidate


def _deciding(kept: Kept) -> str:
    """The message that decided the dispute of the item's round."""
    (answer,) = kept.explain("dispute", _candidate(kept))
    return str(next(each["position"] for each in answer["reasons"] if "was decided against" in each["what"]))
