"""The official AsyncAPI tools, from npm: the JSON Schema of the specification, and the parser. Nothing of them is kept here."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("@asyncapi/parser@3.6.3", "@asyncapi/specs@6.11.1")

_PARSE = """\
import { Parser } from '@asyncapi/parser';
import { readFileSync } from 'fs';
const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'));
console.log(JSON.stringify({
  found: diagnostics.map(d => ({ severity: d.severity, code: String(d.code), text: `${d.path.join('/')}: ${d.message}` })),
  channels: document ? document.channels().length : 0,
  operations: document ? document.operations().length : 0,
}));
"""


class AsyncApiTools:
    """Installed in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def parsed(self, document: Path) -> dict[str, Any]:
        """What the parser says: `found`, with severity 0 for an error, and how much it has seen."""
        program = self._folder / "parse.mjs"
        program.write_text(_PARSE)
        done = subprocess.run(["node", str(program), str(document)], capture_output=True, text=True, timeout=120, check=True)
        return json.loads(done.stdout)

    def specification(self) -> dict[str, Any]:
        """The JSON Schema (draft 7) of AsyncAPI 3.0.0."""
        return json.loads((self._folder / "node_modules/@asyncapi/specs/schemas/3.0.0.json").read_text())


def installed(folder: Path) -> AsyncApiTools:
    """Skips the test with the reason when they cannot be had."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not there: the official AsyncAPI parser runs on them")
    try:
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--prefix", str(folder), *PACKAGES],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not get the official AsyncAPI parser within 240 s")
    if done.returncode:
        pytest.skip(f"npm cannot get the official AsyncAPI parser: {done.stderr[-300:]}")
    return AsyncApiTools(folder)
