"""Style as a test: who may import whom, what the pure folders must not touch, sizes and names (CONTRIBUTING.md)."""

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
FORBIDDEN_NAMES = {"utils", "util", "helper", "helpers", "base", "manager"}

# Of the standard library, what reaches outside: files, sockets, processes, time, chance, threads, logs, the interpreter's state.
IMPURE = {
    "asyncio",
    "concurrent",
    "datetime",
    "fcntl",
    "glob",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "pickle",
    "platform",
    "random",
    "secrets",
    "select",
    "selectors",
    "shelve",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
    "warnings",
}
IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "compile", "breakpoint", "hash", "id"}

# The contract: the standard library and the codec's libraries.
MESSAGES_MAY_IMPORT = {"messages", "cbor2", "msgspec", "blake3"}
# Decisions: the contract, the pure part of the overseer, and pure computation.
SUBSYSTEMS_MAY_IMPORT = {"messages", "msgspec", "blake3", "py_arkworks_bls12381", "nacl"}
OVERSEER_FOR_SUBSYSTEMS = {"overseer.subsystem", "overseer.tables", "overseer.limits"}
# The one place where subsystems are put together.
# Benches and simulated networks are compositions of their own, under the real runner.
COMPOSITION_ROOT = (
    "overseer.node.catalogue",
    "overseer.bench",
    "overseer.simulation.disputes_cast",
    "overseer.simulation.elections",
    "overseer.simulation.consensus",
    "overseer.simulation.peers",
    "overseer.simulation.peer_nodes",
)

# The shells of the elections' runtime, which knows no kind of election, and of the consensus groups: they drive those machines.
SHELLS = {"overseer.sites": "subsystems.elections", "overseer.consensus": "subsystems.consensus_manager"}

# Who writes the document of the contract to standard output, by hand.
MAY_USE_SYS = {"messages/cddl.py"}


def sources(*folders: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def tree(source: str) -> ast.Module:
    return ast.parse((ROOT / source).read_text(), filename=source)


def module_name(source: str) -> str:
    return source.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(source: str) -> Iterator[str]:
    """The modules that a file imports, absolute; `from package import module` as that module where there is one."""
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: imports are absolute"
            package = node.module or ""
            for alias in node.names:
                inner = f"{package}.{alias.name}"
                path = ROOT / inner.replace(".", "/")
                yield inner if path.with_suffix(".py").exists() or path.is_dir() else package


def is_within(module: str, packages: set[str] | tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


pure = pytest.mark.parametrize("source", sources("messages", "subsystems"))
every_source = pytest.mark.parametrize("source", sources("messages", "subsystems", "overseer"))
every_file = pytest.mark.parametrize("source", sources("messages", "subsystems", "overseer", "tests"))


@pytest.mark.parametrize("source", sources("messages"))
def test_messages_import_the_standard_library_and_the_codec_alone(source: str) -> None:
    foreign = {m for m in imports(source) if m.partition(".")[0] not in MESSAGES_MAY_IMPORT | set(sys.stdlib_module_names)}
    assert not foreign, f"{source} imports {sorted(foreign)}"


@pytest.mark.parametrize("source", sources("subsystems"))
def test_subsystems_import_the_contract_and_the_pure_part_of_the_overseer_never_each_other(source: str) -> None:
    own = ".".join(module_name(source).split(".")[:2])
    foreign = {
        m
        for m in imports(source)
        if m.partition(".")[0] not in SUBSYSTEMS_MAY_IMPORT | set(sys.stdlib_module_names)
        and not is_within(m, OVERSEER_FOR_SUBSYSTEMS)
        and not is_within(m, (own,))
    }
    assert not foreign, f"{source} imports {sorted(foreign)}"


@pytest.mark.parametrize("source", sources("overseer"))
def test_only_the_composition_root_imports_subsystems(source: str) -> None:
    if is_within(module_name(source), COMPOSITION_ROOT):
        return
    foreign = {m for m in imports(source) if is_within(m, ("subsystems",))}
    for shell, driven in SHELLS.items():
        if is_within(module_name(source), (shell,)):
            foreign = {m for m in foreign if not is_within(m, (driven,)) or is_within(m, ("subsystems.elections.ballots",))}
    assert not foreign, f"{source} imports {sorted(foreign)}; only {' or '.join(COMPOSITION_ROOT)} may"


@pytest.mark.parametrize("source", ["overseer/subsystem.py", "overseer/tables.py", "overseer/limits.py"])
def test_the_pure_part_of_the_overseer_is_pure(source: str) -> None:
    foreign = {m for m in imports(source) if m.partition(".")[0] in IMPURE or is_within(m, ("subsystems",))}
    assert not foreign, f"{source} imports {sorted(foreign)}"


@pure
def test_pure_code_has_no_io_clock_chance_or_log(source: str) -> None:
    allowed = {"sys"} if source in MAY_USE_SYS else set[str]()
    foreign = {m for m in imports(source) if m.partition(".")[0] in IMPURE - allowed}
    assert not foreign, f"{source} imports {sorted(foreign)}"
    called = {n.func.id for n in ast.walk(tree(source)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not called & IMPURE_BUILTINS, f"{source} calls {sorted(called & IMPURE_BUILTINS)}"


@pure
def test_pure_code_awaits_nothing_and_changes_no_globals(source: str) -> None:
    forbidden = (ast.AsyncFunctionDef, ast.Await, ast.Global, ast.Nonlocal)
    found = [node.lineno for node in ast.walk(tree(source)) if isinstance(node, forbidden)]
    assert not found, f"{source}: lines {found}"


@every_file
def test_files_and_functions_stay_small(source: str) -> None:
    lines = len((ROOT / source).read_text().splitlines())
    assert lines <= FILE_LINES_MAX, f"{source} has {lines} lines, the limit is {FILE_LINES_MAX}"
    for node in ast.walk(tree(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{source}:{node.lineno} {node.name} has {length} lines, the limit is {FUNCTION_LINES_MAX}"


@every_file
def test_nothing_is_called_utils_base_manager_or_helper(source: str) -> None:
    parts = set(source.removesuffix(".py").split("/"))
    assert not parts & FORBIDDEN_NAMES, source


@every_source
def test_an_init_file_holds_no_implementation(source: str) -> None:
    if not source.endswith("__init__.py"):
        return
    for node in tree(source).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        exported = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert docstring or exported or isinstance(node, (ast.Import, ast.ImportFrom)), f"{source}:{node.lineno}"


@every_source
def test_every_module_says_what_it_is(source: str) -> None:
    assert ast.get_docstring(tree(source)), f"{source} has no docstring"


@pytest.mark.parametrize("package", ["messages", "subsystems", "overseer"])
def test_the_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()
