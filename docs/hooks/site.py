"""What the site needs beyond Markdown: pictures, the files that pages link to, and the list of decisions.

- A block of `mermaid` becomes an SVG when the site is built, drawn by Mermaid itself in an embedded JavaScript engine (mermaidx). So
  neither the build nor the reader loads anything from elsewhere, and a browser without scripts shows it, too.
- Pages link to files of the repository beside this folder (a configuration, the contract). They are copied to the site, below `files/`.
- README.md, CONTRIBUTING.md and CHANGELOG.md are pages of the site, and every page in adr/ is in its navigation.
"""

import hashlib
import posixpath
import re
from pathlib import Path

import mermaidx
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Pages that lie outside this folder, and their place on the site.
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "readme.md"}
# Where files of the repository go that are no pages.
COPIES = "files"
_LINK = re.compile(r"(?<!`)(\]\()([^)#\s]+)(#[^)\s]*)?(\))")
_MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """All decisions are in the navigation, in their order."""
    decisions = next(section["Decisions"] for section in config.nav or [] if "Decisions" in section)
    decisions += [{_title(page): f"adr/{page.name}"} for page in sorted((DOCS / "adr").glob("[0-9]*.md"))]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages that lie outside, and the files that pages link to."""
    for source, place in OUTSIDE.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text()))
    for page in list(files.documentation_pages()):
        for target in _targets(page.content_string, _folder(page.src_uri)):
            copy = f"{COPIES}/{_visible(target)}"
            if files.get_file_from_path(copy) is None:
                files.append(File.generated(config, copy, content=(ROOT / target).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are on the site, pictures in place of their descriptions."""
    folder = _folder(page.file.src_uri)
    # What follows a block's language is for the tests.
    parts = _FENCED.split(re.sub(r"^```(\w+) .*$", r"```\1", markdown, flags=re.MULTILINE))
    # The parts between fenced blocks are at even places.
    parts[::2] = [_LINK.sub(lambda link: _moved(link, folder, page.file.src_uri), text) for text in parts[::2]]
    return _MERMAID.sub(lambda block: _picture(block[1]), "".join(parts))


def _title(page: Path) -> str:
    return page.read_text().splitlines()[0].removeprefix("# ")


def _folder(src_uri: str) -> str:
    """The folder of a page, seen from the repository."""
    return "" if src_uri in OUTSIDE.values() else posixpath.dirname(f"docs/{src_uri}")


def _path(folder: str, target: str) -> str:
    """The file that a link leads to, seen from the repository; "" for another site or a place on the same page."""
    if not target or ":" in target:
        return ""
    return posixpath.normpath(posixpath.join(folder, target))


def _targets(text: str, folder: str) -> list[str]:
    """Linked files of the repository that are neither pages nor within docs/."""
    outside = _FENCED.sub("", text)
    found = [_path(folder, link[2]) for link in _LINK.finditer(outside)]
    return [path for path in found if path and not path.startswith("docs/") and path not in OUTSIDE and (ROOT / path).is_file()]


def _visible(path: str) -> str:
    """Without a dot at its front, which would hide it from the site."""
    folder, name = posixpath.split(path)
    return posixpath.join(folder, name.lstrip("."))


def _moved(link: re.Match[str], folder: str, src_uri: str) -> str:
    path = _path(folder, link[2])
    if path in OUTSIDE:
        place = OUTSIDE[path]
    elif path.startswith("docs/"):
        place = path.removeprefix("docs/")
    elif path and (ROOT / path).is_file():
        place = f"{COPIES}/{_visible(path)}"
    else:
        return link[0]
    return f"{link[1]}{posixpath.relpath(place, posixpath.dirname(src_uri) or '.')}{link[3] or ''}{link[4]}"


def _picture(source: str) -> str:
    """The diagram as SVG within the page; ids of its own, so that several on one page do not share their arrows."""
    name = f"diagram-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    svg = mermaidx.render(source).svg()
    own = next(iter(re.findall(r'<svg[^>]*\bid="([^"]+)"', svg)), "")
    if own:
        svg = svg.replace(own, name)
    # Markdown ends an HTML block at an empty line.
    one_line = re.sub(r"\n+", " ", svg)
    return f'<div class="diagram">{one_line}</div>'
