"""The replayer of transcripts: it finds them, types them, and sees what is not as shown."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.transcripts import Block, Mismatch, Session, difference, replay, transcripts

PAGE = Path("page.md")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(tmp_path, os.environ) as typed:
        yield typed


def page(*lines: str, language: str = "console") -> list[Block]:
    return transcripts(PAGE, "\n".join(["# Title", f"```{language}", *lines, "```", "and text"]))


# ------------------------------------------------------------------------------------------------ finding


def test_a_block_is_commands_and_what_they_say() -> None:
    ((_, steps, patient, unordered),) = page("$ one", "1", "", "$ two \\", "> more", "> $ not a prompt", "> said")
    assert [(step.command, step.said, step.line) for step in steps] == [
        ("one", ("1", ""), 3),
        ("two \\\nmore\n$ not a prompt\nsaid", (), 6),
    ]
    assert not patient
    assert not unordered


def test_other_blocks_are_none() -> None:
    assert page("$ one", language="sh") == []
    assert page("$ one", language="") == []


def test_a_block_that_begins_with_no_command_is_named() -> None:
    with pytest.raises(ValueError, match=r"page\.md:3"):
        page("said", "$ one")


def test_a_block_may_be_waited_for_or_without_order_and_nothing_else() -> None:
    assert page("$ one", language="console eventually")[0].patient
    assert page("$ one", language="console unordered")[0].unordered
    with pytest.raises(ValueError, match="soon"):
        page("$ one", language="console soon")


# ------------------------------------------------------------------------------------------------ comparing


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ([], ""),
        (["one", "two"], "one\ntwo\n"),
        (["one   two"], "  one two\r\n\n"),
        (["a ... c"], "a  b  c"),
        (["a...c"], "ac"),
        (["a ... c"], "a c"),
        (['"a...."'], '"a.b.c"'),
        (["a (...)."], "a (b)."),
        (["..."], ""),
        (["...", "b", "..."], "a\nb\nc\nd"),
        (["a", "...", "d"], "a\nb\nc\nd"),
        (["a", "...", "d"], "a\nd"),
        (["│ x │", "├───┤"], "│    x    │\n├─────────┤"),
        (["plain"], "\x1b[1;32mplain\x1b[0m"),
        (["..a"], "..a"),
    ],
)
def test_what_is_as_shown(shown: list[str], said: str) -> None:
    assert difference(shown, said) == ""


@pytest.mark.parametrize(
    ("shown", "said", "amiss"),
    [
        ([], "one", "more than is shown"),
        (["one"], "", "one"),
        (["one"], "one\ntwo", "more than is shown"),
        (["one", "two"], "one\nthree", "two"),
        (["a ... c"], "a\nc", "a ... c"),
        (["a ... c"], "abc", "a ... c"),
        (["...", "b"], "a\nc", "b"),
        (["a", "...", "d"], "a\nb\nd\ne", "more than is shown"),
        (["a.c"], "abc", "a.c"),
        (["ab"], "a b", "ab"),
    ],
)
def test_what_is_not_as_shown_is_named(shown: list[str], said: str, amiss: str) -> None:
    assert difference(shown, said).endswith(amiss)


@pytest.mark.parametrize(
    ("shown", "said", "amiss"),
    [
        (["a ...", "b"], "b\na 1", ""),
        (["a", "..."], "b\na", ""),
        (["a", "b"], "b", "this line: a"),
        (["a", "..."], "b", "this line: a"),
        (["a"], "b\na", "this line: b"),
        ([], "b", "this line: b"),
    ],
)
def test_lines_without_order(shown: list[str], said: str, amiss: str) -> None:
    assert difference(shown, said, unordered=True).replace("\n ", "").endswith(amiss)
    assert bool(difference(shown, said, unordered=True)) is bool(amiss)


# ------------------------------------------------------------------------------------------------ typing


def test_one_shell_takes_all_commands(session: Session, tmp_path: Path) -> None:
    replay(
        page(
            "$ NAME=value; mkdir in; cd in",
            '$ echo "$NAME, $(basename $PWD)"',
            "value, in",
            "$ for n in 1 2; do",
            ">   echo $n",
            "> done",
            "1",
            "2",
            "$ echo gone >&2",
            "gone",
        ),
        session,
    )


def test_it_is_a_terminal(session: Session) -> None:
    assert session.type("test -t 0 && test -t 1 && test -t 2").code == 0
    assert session.type("stty size").text == "50 180\n"


def test_a_failure_must_be_shown(session: Session) -> None:
    replay(page("$ sh -c 'exit 3'", "$ echo $?", "3"), session)
    with pytest.raises(Mismatch, match="exit code 3"):
        replay(page("$ sh -c 'exit 3'"), session)
    with pytest.raises(Mismatch, match="exit code 3"):
        replay(page("$ sh -c 'exit 3'", "$ echo this: $?", "this: 3"), session)


def test_a_mismatch_tells_where_and_what(session: Session) -> None:
    with pytest.raises(Mismatch) as caught:
        replay(page("$ true", "$ echo three", "two"), session)
    told = str(caught.value)
    assert told.startswith("page.md:4: ")
    assert "--- shown\ntwo\n" in told
    assert "--- said (exit code 0)\nthree\n" in told


def test_what_comes_in_a_while_is_waited_for(session: Session, tmp_path: Path) -> None:
    count = shlex.quote(str(tmp_path / "count"))
    step = f"$ echo x >> {count}; wc -l < {count}"
    replay(page(step, "3", language="console eventually"), session)
    with pytest.raises(Mismatch):
        replay(page(step, "3"), session)


def test_a_command_that_does_not_end_is_named(session: Session) -> None:
    with pytest.raises(TimeoutError, match="begun"):
        session.type("echo begun; cat", seconds=0.5)


def test_a_shell_that_ends_is_named(session: Session) -> None:
    with pytest.raises(EOFError, match="exit 4"):
        session.type("exit 4")
