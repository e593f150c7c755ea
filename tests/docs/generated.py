"""The parts of the documents that follow from the code. `python -m tests.docs.generated` writes them anew; a test compares."""

from collections.abc import Callable
from pathlib import Path

from overseer.node.catalogue import SECTIONS
from overseer.settings import example_toml
from tests.docs import reference
from tests.docs.endpoints import lines

__all__ = ["PARTS", "REFERENCE", "ROOT", "pages", "with_part"]

ROOT = Path(__file__).parents[2]
# Pages that are generated as a whole.
REFERENCE = ROOT / "docs" / "reference"


def graph() -> str:
    return reference.graph().mermaid()


def configuration() -> str:
    return example_toml(SECTIONS)


# File -> (language of its one fenced block, what is in it).
PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "README.md": ("mermaid", graph),
    "docs/configuration.md": ("toml", configuration),
    "docs/operating.md": ("sh endpoints", lines),
}


def with_part(file: str) -> str:
    """The file's text with its generated block as it should be."""
    language, make = PARTS[file]
    text = (ROOT / file).read_text()
    before, fence, rest = text.partition(f"```{language}\n")
    _, end, after = rest.partition("```")
    assert fence, f"{file} has no block of {language}"
    assert end, f"the block of {language} in {file} does not end"
    return f"{before}{fence}{make()}```{after}"


def pages() -> dict[Path, str]:
    """The pages that are generated as a whole."""
    messages = {REFERENCE / "messages" / name: text for name, text in reference.message_pages().items()}
    return {REFERENCE / "cli.md": reference.cli_page(), **messages}


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in PARTS:
        (ROOT / name).write_text(with_part(name))
