"""The parts of the documents that follow from the code. `python -m tests.docs.generated` writes them anew; a test compares."""

from collections.abc import Callable
from pathlib import Path

from overseer.graph import Graph
from overseer.node.catalogue import SECTIONS, build_subsystems
from overseer.settings import example_toml, load_config

__all__ = ["PARTS", "ROOT", "with_part"]

ROOT = Path(__file__).parents[2]


def graph() -> str:
    loaded = load_config(environ={"OVERSEER_CONFIG": ""}, sections=SECTIONS)
    return Graph.of(subsystem.declaration for subsystem in build_subsystems(loaded).values()).mermaid()


def configuration() -> str:
    return example_toml(SECTIONS)


# File -> (language of its one fenced block, what is in it).
PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "README.md": ("mermaid", graph),
    "docs/configuration.md": ("toml", configuration),
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


if __name__ == "__main__":
    for name in PARTS:
        (ROOT / name).write_text(with_part(name))
