"""What the documents are compared with."""

import ast

import pytest

from tests.docs.generated import ROOT


@pytest.fixture(scope="session")
def tests() -> set[str]:
    """The names of all tests."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py"))
    functions = (node for tree in trees for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return {function.name for function in functions if function.name.startswith("test_")}
