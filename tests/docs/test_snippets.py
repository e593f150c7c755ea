"""What the documents show is so: generated parts, commands and their options, examples, links."""

import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from messages.contract import load
from messages.message import Kind, Spec
from messages.subjects import SubjectError, parse
from messages.text import from_json
from overseer.cli.app import app
from overseer.node.catalogue import SECTIONS
from overseer.settings import load_config
from tests.docs.generated import PARTS, ROOT, with_part
from tests.docs.nested import nested_pytest
from tests.docs.transcripts import transcripts

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def unfenced(page: Path) -> str:
    """The page's text without its blocks."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def shell_lines(page: Path) -> Iterator[str]:
    """Command lines of the page's shell blocks, and commands in its text that are more than a name."""
    for block in blocks(page, "sh"):
        yield from (line for line in block.splitlines() if line and not line.startswith("#"))
    for code in re.findall(r"`([^`\n]+)`", unfenced(page)):
        # The domain of a signature begins with the same word.
        if code.startswith("overseer ") and not re.search(r" v\d$", code):
            yield code


def commands(line: str, program: str) -> Iterator[list[str]]:
    """The arguments of every call of `program` in a line: behind pipes, in `sh -c`, in a container."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "|"]:
        if word in ("|", "||", "&&", ";", ">", "<"):
            if words[:4:2] == ["docker", "exec"]:
                words = words[4:]
            if words[:2] == ["sh", "-c"]:
                yield from commands(words[2], program)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words[:1] == [program]:
                yield words[1:]
            words = []
        else:
            words.append(word)


def test_commands_are_found_wherever_they_stand() -> None:
    line = "OVERSEER_NODE=a overseer make bundle | docker compose exec x sh -c 'overseer send m - && overseer status' > f"
    assert [c[0] for c in commands(line, "overseer")] == ["make", "send", "status"]


# ------------------------------------------------------------------------------------------------ generated


@pytest.mark.parametrize("file", list(PARTS))
def test_generated_parts_are_those_of_the_code(file: str) -> None:
    assert (ROOT / file).read_text() == with_part(file), "run: python -m tests.docs.generated"


def test_the_example_configuration_can_be_used_with_every_line_in_force(tmp_path: Path) -> None:
    (example,) = blocks(ROOT / "docs" / "configuration.md", "toml")
    text = re.sub(r"(?m)^#(?=[a-z_]+ = )", "", example)
    assert tomllib.loads(text)
    (tmp_path / "overseer.toml").write_text(text)
    loaded = load_config(tmp_path / "overseer.toml", environ={}, sections=SECTIONS, folder=tmp_path)
    assert loaded.config.node == "node"


def test_the_readme_names_the_two_commands() -> None:
    assert {"pip install -e . && overseer demo\n", "pip install -e '.[dev]' && pytest -n auto\n"} <= set(blocks(ROOT / "README.md", "sh"))


# ------------------------------------------------------------------------------------------------ commands


def the_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command these words name, and the rest of them."""
    # Typer brings a click of its own in some releases and uses the installed one in others.
    found: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(found, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in found.commands, f"there is no command {name!r}"
        found = found.commands[name]
    return found, rest


@every_page
def test_every_command_of_ours_exists_with_these_options(page: Path) -> None:
    # What transcripts say besides is compared by typing them.
    for line in (*shell_lines(page), *(step.command for block in transcripts(page) for step in block.steps)):
        for words in commands(line, "overseer"):
            if not words or not re.fullmatch(r"[a-z-]+", words[0]):
                continue
            command, rest = the_command(words)
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            known |= {"--help", "-h"}
            for word in rest:
                assert not word.startswith("--") or word in known, f"{line}: {command.name} has no option {word}"


@every_page
def test_messages_and_bodies_in_commands_are_of_the_contract(page: Path) -> None:
    for line in shell_lines(page):
        for words in commands(line, "overseer"):
            if words[:1] not in (["send"], ["query"], ["encode"]) or not re.fullmatch(r"[a-z_]+", (words[1:] or [""])[0]):
                continue
            specs = [spec for spec in load().by_name(words[1]) if spec.kind in (Kind.COMMAND, Kind.QUERY)]
            assert specs, line
            body = words[2] if len(words) > 2 and words[2].startswith("{") else ""
            if body:
                from_json(specs[0], body.replace('"0x..."', json.dumps("0x" + "00" * 32)).encode())


@every_page
def test_requests_by_the_stock_client_are_of_the_contract(page: Path) -> None:
    for line in shell_lines(page):
        for words in commands(line, "nats"):
            for verb in ("req", "pub"):
                if verb not in words:
                    continue
                arguments = [word for word in words[words.index(verb) + 1 :] if not word.startswith("-")]
                subject, *body = arguments
                spec = spec_of(subject)
                if body and body[0].startswith("{"):
                    from_json(spec, body[0].replace('"0x..."', json.dumps("0x" + "00" * 32)).encode())


def spec_of(subject: str) -> Spec:
    parts = subject.split(".")
    if len(parts) == 5 and parts[3] == "req":
        spec = load().find(Kind.COMMAND, parts[2], parts[4])
    else:
        try:
            spec = parse(subject).spec()
        except SubjectError:
            spec = None
    assert spec is not None, subject
    return spec


# ------------------------------------------------------------------------------------------------ examples


@pytest.mark.real
@pytest.mark.slow
def test_the_example_subsystem_passes_its_tests(tmp_path: Path) -> None:
    # In a process of its own: what it registers must not join the contract that other tests read.
    run = [*nested_pytest(tmp_path), "-q", "docs/examples"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_guide_shows_the_example_as_it_is() -> None:
    sources = "\n".join(path.read_text() for path in sorted((ROOT / "docs" / "examples").glob("*.py")))
    shown = blocks(ROOT / "docs" / "writing-a-subsystem.md", "python")
    assert shown
    for snippet in shown:
        assert snippet in sources, snippet


# ------------------------------------------------------------------------------------------------ words


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", unfenced(page)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:messages|overseer|subsystems|tests|docs|deploy)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name


@every_page
def test_tests_that_are_named_exist(page: Path, tests: set[str]) -> None:
    named = set(re.findall(r"`(test_\w+)`", unfenced(page)))
    assert named - tests == set()


def test_the_reasons_of_dead_letters_are_all_told() -> None:
    source = "\n".join(path.read_text() for folder in ("overseer/runner", "messages") for path in (ROOT / folder).glob("*.py"))
    used = set(re.findall(r'(?:Refusal|CodecError)\(\s*"(\w+)"', source))
    text = (ROOT / "docs" / "protocol.md").read_text()
    told = set(re.findall(r"`(\w+)`", text[text.index("## Reasons of dead letters") : text.index("## Signed bytes")]))
    assert used == told


def test_the_metrics_that_are_told_exist() -> None:
    from prometheus_client import CollectorRegistry

    from overseer.node.domains import DOMAINS
    from overseer.node.figures import DomainCollector, Look
    from overseer.observe.metrics import RunnerInstruments, SiteInstruments, SupervisionCollector

    def every_figure() -> list[Look]:
        return [Look(title=d.title, subsystem=d.subsystem, figures={f.name: 0.0 for f in d.figures}) for d in DOMAINS]

    registry = CollectorRegistry()
    RunnerInstruments(registry)
    SiteInstruments(registry, "elections_dc1")
    registry.register(SupervisionCollector(list, node="node"))
    registry.register(DomainCollector(DOMAINS, every_figure, node="node"))
    families = {metric.name: metric.type for metric in registry.collect()}
    exist = {f"{name}_total" if kind == "counter" else name for name, kind in families.items()}
    section = (ROOT / "docs" / "operating.md").read_text().partition("### Health and metrics\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"`(overseer_\w+)", section.partition("\n### ")[0]))
    assert told == exist


def test_the_example_of_a_peer_election_runs() -> None:
    (example,) = blocks(ROOT / "docs" / "peers.md", "python")
    there: dict[str, object] = {}
    exec(compile(example, "docs/peers.md", "exec"), there)
    assert there["ticket"]
