"""The documentation as a site: it builds, every page is found from its navigation, every link leads somewhere, nothing is fetched."""

import importlib.util
import os
import posixpath
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from messages.contract import own
from messages.message import Kind, Rejection
from overseer.cli.app import app
from overseer.node.catalogue import SECTIONS
from overseer.settings import load_config
from tests.docs.fields import about
from tests.docs.generated import REFERENCE, ROOT, pages
from tests.docs.reference import command_names

DOCS = ROOT / "docs"
NEEDED = ("mkdocs", "material", "mkdocstrings", "mermaidx")
WRITTEN = sorted(path for path in DOCS.rglob("*.md"))
# Pages of the site that lie above its folder.
OUTSIDE = ("README", "CHANGELOG", "CONTRIBUTING")
# Configuration for other programs than ours.
FOREIGN = {"prometheus.yml", "overseer.rules.yml"}


# ------------------------------------------------------------------------------------------------ generated pages


@pytest.mark.parametrize("page", pages().items(), ids=lambda each: each[0].stem)
def test_the_reference_is_that_of_the_code(page: tuple[Path, str]) -> None:
    path, text = page
    assert path.read_text() == text, "run: python -m tests.docs.generated"


def test_no_page_of_messages_is_left_over() -> None:
    assert set((REFERENCE / "messages").iterdir()) == {path for path in pages() if path.parent.name == "messages"}


def test_every_command_is_in_the_reference() -> None:
    told = re.findall(r"(?m)^## (overseer .+)$", (REFERENCE / "cli.md").read_text())
    assert told == command_names()
    assert {name.split()[1] for name in told} == {*_top_level()}


def _top_level() -> Iterator[str]:
    for command in app.registered_commands:
        assert command.callback is not None
        yield command.name or command.callback.__name__.replace("_", "-")
    yield from (group.name for group in app.registered_groups if group.name)


def test_every_message_is_in_the_reference() -> None:
    for spec in own():
        page = REFERENCE / "messages" / f"{'overseer' if spec.owner == 'feed' else spec.owner}.md"
        assert f"### `{spec.name}`\n" in page.read_text(), spec.key


def test_every_message_says_what_it_means() -> None:
    """Journal events and timers, too: who reads journals meets them."""
    silent = [spec.key for spec in own() if not about(spec.body)]
    assert silent == []


def test_every_rejection_that_may_pass_says_when() -> None:
    for spec in own():
        if spec.kind is Kind.REJECTION:
            page = (REFERENCE / "messages" / f"{spec.owner}.md").read_text()
            # A fact may have the name of a rejection.
            sections = [text for text in re.split(r"(?m)^(?=###? )", page) if text.startswith(f"### `{spec.name}`\n")]
            assert sections, spec.key
            told = any("A retry may help" in text for text in sections)
            retriable = any("retriable" in each.__dict__ for each in spec.body.__mro__ if each is not Rejection)
            assert told == retriable, spec.key


# ------------------------------------------------------------------------------------------------ snippets


def _blocks(language: str) -> list[tuple[Path, str]]:
    found = [(page, text) for page in WRITTEN for text in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)]
    found = [(page, text) for page, text in found if page != DOCS / "configuration.md"]
    assert found, f"no page shows {language}"
    return found


def test_every_toml_is_a_configuration(tmp_path: Path) -> None:
    for page, text in _blocks("toml"):
        tomllib.loads(text)
        (tmp_path / "overseer.toml").write_text(text)
        assert load_config(tmp_path / "overseer.toml", environ={}, sections=SECTIONS, folder=tmp_path), page


def test_every_yaml_can_be_read_and_is_of_a_program_that_we_know() -> None:
    for page, text in _blocks("yaml"):
        name = text.splitlines()[0].removeprefix("# ")
        assert yaml.safe_load(text), page
        assert name in FOREIGN, page


def test_every_alert_is_about_a_metric_that_exists() -> None:
    told = (DOCS / "operating.md").read_text()
    metrics = {metric for _, text in _blocks("yaml") for metric in re.findall(r"overseer_[a-z_]+", text)}
    assert metrics
    assert {metric for metric in metrics if f"`{metric}" not in told} == set()


def test_every_python_example_is_python() -> None:
    """That it runs is tested where it is told: test_guides, test_snippets, tests/elections."""
    for page, text in _blocks("python"):
        # A method by itself is shown as it is indented in its class.
        compile(text if not text.startswith(" ") else f"class _:\n{text}", str(page), "exec")


# ------------------------------------------------------------------------------------------------ the site


class _Page(HTMLParser):
    """Ids of a page, where its links lead, and what a browser would load for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.ids |= {named[name] for name in ("id", "name") if name in named}
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        elif tag in ("script", "img", "iframe", "source") and "src" in named:
            self.loads.append(named["src"])
        elif tag == "link" and named.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(named["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, _Page]:
    """The built site: its pages by their place."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        pytest.skip(f"no {', '.join(missing)} here: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    # A proxy that nobody listens at: whoever would fetch something fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    texts = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.html") if path.name != "404.html"}
    assert [name for name, text in texts.items() if "```" in text] == [], "a block is shown as it is written"
    return {name: _Page(text) for name, text in texts.items()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_site_builds_and_every_page_is_one_of_it(site: dict[str, _Page]) -> None:
    wanted = {str(page.relative_to(DOCS)) for page in WRITTEN}
    named = {name.replace("README.md", "index.md").removesuffix(".md") + ".html" for name in wanted}
    assert set(site) == named | {f"{name.lower()}.html" for name in OUTSIDE}


@pytest.mark.slow
def test_no_page_is_an_orphan(site: dict[str, _Page]) -> None:
    reached, left = {"index.html"}, ["index.html"]
    while left:
        page = left.pop()
        for link in site[page].links:
            target = _place(page, link)
            if target in site and target not in reached:
                reached.add(target)
                left.append(target)
    assert set(site) - reached == set()


@pytest.mark.slow
def test_every_link_and_anchor_of_the_site_leads_somewhere(site: dict[str, _Page]) -> None:
    dead = []
    for name, page in site.items():
        for link in page.links:
            if re.match(r"\w+:", link):
                continue
            target, anchor = _place(name, link), link.partition("#")[2]
            if target.endswith(".html") and (target not in site or (anchor and anchor not in site[target].ids)):
                dead.append((name, link))
    assert dead == []


@pytest.mark.slow
def test_the_reader_loads_nothing_from_elsewhere(site: dict[str, _Page]) -> None:
    loads = {load for page in site.values() for load in page.loads}
    assert loads
    assert {load for load in loads if re.match(r"(\w+:)?//", load)} == set()


@pytest.mark.slow
def test_every_diagram_is_a_picture(site: dict[str, _Page]) -> None:
    drawn = sum("```mermaid" in page.read_text() for page in [*WRITTEN, ROOT / "README.md"])
    assert sum(any(name.startswith("diagram-") for name in page.ids) for page in site.values()) == drawn


def _place(page: str, link: str) -> str:
    """The page that a link of another page leads to."""
    path = link.partition("#")[0]
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
