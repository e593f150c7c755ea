"""Read the configuration: defaults, `overseer.toml`, environment, flags, in rising precedence; every value with its source.

Strict: an unknown key, a wrong type or a value out of bounds is an error that names the source, the key and what is expected,
all of them at once. A subsystem's own section is read in the same way: the caller gives its name and its struct.
"""

import difflib
import functools
import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from messages.subjects import SubjectError, check_token
from overseer.config import Config, NatsConfig, servers_of
from overseer.nats.tls import is_loopback, plain_and_far

__all__ = ["CONFIG_FILE", "RESERVED_ENVIRONMENT", "ConfigError", "Loaded", "Setting", "example_toml", "load_config", "settings_toml"]

CONFIG_FILE = "overseer.toml"
PREFIX = "OVERSEER_"
# Variables with our prefix that are no settings: the file to read, and what the supervisor tells its children.
RESERVED_ENVIRONMENT = frozenset(
    {"OVERSEER_CONFIG", "OVERSEER_PARENT_FD", "OVERSEER_HEARTBEAT_FD", "OVERSEER_HEARTBEAT_MS", "OVERSEER_RUN_ID"}
)
# Variables with this prefix are never settings (kill points and other switches of the tests).
TEST_PREFIX = "OVERSEER_TEST_"

Sections = Mapping[str, type[msgspec.Struct]]


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one sentence for each thing that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One value in force, where it came from, and what it means."""

    key: str
    value: str
    source: str
    description: str


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration in force. `sections` holds the subsystems' own, by name."""

    config: Config
    sections: dict[str, msgspec.Struct]
    settings: list[Setting]
    file: Path | None

    def environment(self) -> dict[str, str]:
        """The variables that give a child process exactly this configuration, whatever happens to the file meanwhile."""
        # The folder is told in any case: its default depends on the working directory.
        told = {_variable(s.key): s.value for s in self.settings if s.source != "default" or s.key == "data_dir"}
        return {**told, "OVERSEER_CONFIG": ""}


class _Leaf(msgspec.Struct, frozen=True):
    """One key that may be set. `raw` is the type without Annotated and None; `extra` the annotation's extra information."""

    key: str
    kind: Any
    raw: Any
    extra: dict[str, Any]
    default: Any
    description: str


class _Given(msgspec.Struct, frozen=True):
    """A value as it was given. `text`: as a string that stands for any type. `folder`: what paths are relative to."""

    value: Any
    source: str
    text: bool
    folder: Path


def load_config(
    file: Path | None = None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
    sections: Sections | None = None,
    folder: Path | None = None,
) -> Loaded:
    """Read everything and return what is in force.

    `file`: else the one named by OVERSEER_CONFIG (empty: none), else `overseer.toml` in `folder` (the working directory) if
    there is one. `flags`: by key (`nats.port`); None means not given; text is taken for any type. Raises ConfigError.
    """
    here = folder or Path.cwd()
    path = _find(file, environ, here)
    leaves = {leaf.key: leaf for leaf in _leaves(sections or {})}
    problems: list[str] = []
    given: dict[str, _Given] = {}
    if path is not None:
        given |= _from_file(path, leaves, problems)
    given |= _from_environment(environ, leaves, here, problems)
    given |= _from_flags(flags or {}, leaves, here, problems)
    values = {key: _value(leaf, given.get(key), here, problems) for key, leaf in leaves.items()}
    if problems:
        raise ConfigError(problems)
    config, extra = _build(values, sections or {})
    _check(config, given)
    settings = [
        Setting(key=k, value=_shown(values[k]), source=given[k].source if k in given else "default", description=leaf.description)
        for k, leaf in leaves.items()
    ]
    return Loaded(config=config, sections=extra, settings=settings, file=path)


def example_toml(sections: Sections | None = None) -> str:
    """An `overseer.toml` with every key, its meaning and its default, commented out."""
    lines = [f"# {CONFIG_FILE}: every setting with its default. Remove a # to change one; see `overseer config` for what is in force."]
    section = ""
    for leaf in _leaves(sections or {}):
        head, _, name = leaf.key.rpartition(".")
        if head != section:
            section = head
            lines += ["", f"[{section}]"]
        lines += ["", *([f"# {leaf.description}"] if leaf.description else []), f"#{name} = {_toml(leaf.default)}"]
    return "\n".join(lines) + "\n"


def settings_toml(loaded: Loaded, *, without: Sequence[str] = (), instead: Mapping[str, object] | None = None) -> str:
    """What is in force and no default, as a file that gives the same settings again. `instead`: other values for some keys."""
    values = {s.key: _in_force(loaded, s.key) for s in loaded.settings if s.source != "default"} | dict(instead or {})
    lines = [f"{key} = {_toml(value)}" for key, value in values.items() if key not in without and value is not None]
    return "\n".join(["# Settings of a run, as they were in force.", *lines]) + "\n"


def _in_force(loaded: Loaded, key: str) -> Any:
    value: Any = loaded.sections.get(key.partition(".")[0])
    names = key.split(".")
    if value is None:
        value = loaded.config
    else:
        names = names[1:]
    for name in names:
        value = getattr(value, name)
    return value


def _find(file: Path | None, environ: Mapping[str, str], here: Path) -> Path | None:
    named = file or (Path(environ["OVERSEER_CONFIG"]) if environ.get("OVERSEER_CONFIG") else None)
    if named is not None:
        if not (here / named).is_file():
            raise ConfigError([f"{named}: no such file; name another, or write one from `overseer config --example`"])
        return here / named
    default = here / CONFIG_FILE
    return default if "OVERSEER_CONFIG" not in environ and default.is_file() else None


def _leaves(sections: Sections) -> Iterator[_Leaf]:
    """All keys: first those without a section, as TOML needs it, then section by section."""
    clash = {f.name for f in msgspec.structs.fields(Config)} & set(sections)
    if clash:
        raise ValueError(f"sections {sorted(clash)} are taken by the configuration itself")
    yield from _fields_of(Config, "")
    for name, kind in sections.items():
        yield from _fields_of(kind, f"{name}.")


def _fields_of(kind: type[msgspec.Struct], prefix: str) -> Iterator[_Leaf]:
    """Its own keys, then those of the sections in it."""
    comments = _comments(kind)
    fields = msgspec.structs.fields(kind)
    for field in fields:
        if _is_struct(field.type):
            continue
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        raw, extra = _bare(field.type)
        yield _Leaf(f"{prefix}{field.name}", field.type, raw, extra, default, comments.get(field.name, ""))
    for field in fields:
        if _is_struct(field.type):
            yield from _fields_of(field.type, f"{prefix}{field.name}.")


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _bare(kind: Any) -> tuple[Any, dict[str, Any]]:
    """The type without `Annotated` and `| None`, and the annotation's extra information."""
    extra: dict[str, Any] = {}
    while True:
        if get_origin(kind) is Annotated:
            kind, *notes = get_args(kind)
            for note in notes:
                extra |= getattr(note, "extra", None) or {}
        elif get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind):
            kind = next(k for k in get_args(kind) if k is not NoneType)
        else:
            return kind, extra


@functools.cache
def _comments(kind: type) -> dict[str, str]:
    """The comment above each field, from the source; empty where the source is not at hand."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return {}
    found: dict[str, str] = {}
    above: list[str] = []
    for line in source.splitlines():
        text = line.strip()
        field = re.match(r"([a-z_][a-z0-9_]*)\s*:", text)
        if text.startswith("#"):
            above.append(text.removeprefix("#").strip())
            continue
        if field and above:
            found[field.group(1)] = " ".join(above)
        above = []
    return found


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "_").upper()


def _nearest(name: str, known: Mapping[str, object] | Sequence[str], shown: str = "`{}`") -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {shown.format(close[0])}?" if close else ""


def _from_file(path: Path, leaves: Mapping[str, _Leaf], problems: list[str]) -> dict[str, _Given]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError([f"{path}: cannot be read as TOML: {error}"]) from error
    heads = {key[:dot] for key in leaves for dot in range(len(key)) if key[dot] == "."}
    found: dict[str, _Given] = {}
    for key, item in _flat(table, "", heads, leaves, path, problems):
        if key in leaves:
            found[key] = _Given(item, str(path), False, path.parent)
        else:
            problems.append(f"{path}: unknown key `{key}`{_nearest(key, leaves)}")
    return found


def _flat(
    table: Mapping[str, Any], prefix: str, heads: set[str], leaves: Mapping[str, _Leaf], path: Path, problems: list[str]
) -> Iterator[tuple[str, Any]]:
    """The keys of a table and of the sections in it, dotted."""
    for name, value in table.items():
        key = f"{prefix}{name}"
        if not isinstance(value, dict) or key in leaves:
            if key in heads:
                problems.append(f"{path}: `{key}` is a section: write [{key}] above its keys")
            else:
                yield key, value
            continue
        inner = cast(dict[str, Any], value)
        if not inner and key not in heads:
            problems.append(f"{path}: unknown section [{key}]{_nearest(key, sorted(heads), '[{}]')}")
        elif prefix and key not in heads:
            # A table where a value is expected, or below an unknown name: said once, for the whole of it.
            yield key, inner
        else:
            yield from _flat(inner, f"{key}.", heads, leaves, path, problems)


def _from_environment(environ: Mapping[str, str], leaves: Mapping[str, _Leaf], here: Path, problems: list[str]) -> dict[str, _Given]:
    known = {_variable(key): key for key in leaves}
    found: dict[str, _Given] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name in RESERVED_ENVIRONMENT or name.startswith(TEST_PREFIX):
            continue
        if name in known:
            found[known[name]] = _Given(value, f"environment {name}", True, here)
        else:
            problems.append(f"environment: unknown variable {name}{_nearest(name, known, '{}')}")
    return found


def _from_flags(flags: Mapping[str, object], leaves: Mapping[str, _Leaf], here: Path, problems: list[str]) -> dict[str, _Given]:
    found: dict[str, _Given] = {}
    for key, value in flags.items():
        if key not in leaves:
            problems.append(f"flag: unknown key `{key}`{_nearest(key, leaves)}")
        elif value is not None:
            found[key] = _Given(value, "flag", isinstance(value, str), here)
    return found


def _value(leaf: _Leaf, given: _Given | None, here: Path, problems: list[str]) -> Any:
    """The typed value; on a problem the default, and the problem is noted."""
    if given is None and leaf.default is not msgspec.NODEFAULT:
        return here / leaf.default if isinstance(leaf.default, Path) else leaf.default
    try:
        if given is None:
            raise ValueError("must be set: it has no default")
        return _bounded(leaf, _convert(leaf, given))
    except ValueError as error:
        problems.append(f"{given.source if given else 'configuration'}: `{leaf.key}`: {error}")
        return leaf.default


def _convert(leaf: _Leaf, given: _Given) -> Any:
    value = given.value
    if value == "" and leaf.default is None:
        return None
    if leaf.raw is Path and isinstance(value, str | Path):
        return (given.folder / value).absolute()
    if leaf.raw is bytes and isinstance(value, str):
        value = _from_hex(value)
    elif given.text and get_origin(leaf.raw) in (list, tuple):
        value = [item.strip() for item in cast(str, value).split(",") if item.strip()]
    elif "path_unless" in leaf.extra and isinstance(value, str) and value not in leaf.extra["path_unless"]:
        value = str((given.folder / value).absolute())
    try:
        return msgspec.convert(value, leaf.kind, strict=not given.text, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        choices = _choices(leaf.raw)
        if "matching regex" in str(error):
            # The one pattern there is, in words.
            raise ValueError(f"must be lower snake case, at most 64 characters, not {str(value)[:80]!r}") from None
        raise ValueError(f"{error}; one of: {', '.join(choices)}" if choices else str(error)) from None


def _choices(kind: Any) -> list[str]:
    """The words a type allows, if it is an enumeration or a list of one."""
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    return _choices(get_args(kind)[0]) if get_origin(kind) in (list, tuple) else []


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise ValueError(f"expected bytes in hexadecimal, got {len(text)} characters that are not") from None


def _bounded(leaf: _Leaf, value: Any) -> Any:
    """Bounds that the types do not carry: no setting is negative, and no limit of the runner is zero."""
    if isinstance(value, int) and not isinstance(value, bool):
        least = 1 if leaf.key.startswith("limits.") else 0
        if value < least:
            raise ValueError(f"must be at least {least}, not {value}")
    return value


def _build(values: Mapping[str, Any], sections: Sections) -> tuple[Config, dict[str, msgspec.Struct]]:
    def made(kind: type[msgspec.Struct], prefix: str) -> Any:
        fields = msgspec.structs.fields(kind)
        parts = {f.name: made(f.type, f"{prefix}{f.name}.") if _is_struct(f.type) else values[f"{prefix}{f.name}"] for f in fields}
        try:
            return kind(**parts)
        except ValueError as error:
            # Values that are right one by one, and do not fit together.
            raise ConfigError([f"[{prefix.removesuffix('.')}]: {error}"]) from None

    return made(Config, ""), {name: made(kind, f"{name}.") for name, kind in sections.items()}


def _check(config: Config, given: Mapping[str, _Given]) -> None:
    """Rules between values, and of single values that a type cannot tell. Raises ConfigError."""
    problems: list[str] = []

    def wrong(key: str, what: str) -> None:
        problems.append(f"{given[key].source if key in given else 'default'}: `{key}`: {what}")

    try:
        check_token(config.node, "node")
    except SubjectError as error:
        wrong("node", str(error))
    if config.external_subsystems and (config.in_process or not config.nats.url):
        wrong("external_subsystems", "needs nats.url, and no in_process: whoever starts the subsystems must reach the same server")
    if config.feed.source == "net" and (config.network.nodes is None or not {"chain_api", "consensus_manager"} <= set(config.subsystems)):
        wrong("feed.source", "net needs network.nodes, and the subsystems chain_api and consensus_manager")
    if config.feed.source == "substrate":
        _check_substrate(config, wrong)
    if not config.subsystems or len(set(config.subsystems)) < len(config.subsystems):
        wrong("subsystems", "must name at least one subsystem, and none twice")
    urls = [url.strip() for url in config.nats.url.split(",")] if config.nats.url else []
    usable = [_check_url(url, wrong) for url in urls]
    _check_tls(config.nats, urls if all(usable) else [], wrong)
    if config.trace.endpoint and not _is_http(config.trace.endpoint):
        wrong("trace.endpoint", "must be http://host:port or https://host:port, without a user or password")
    if config.supervise.backoff_first_ms > config.supervise.backoff_max_ms:
        wrong("supervise.backoff_first_ms", "must not exceed supervise.backoff_max_ms")
    if problems:
        raise ConfigError(problems)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        return False


def _check_tls(nats: NatsConfig, urls: Sequence[str], wrong: Any) -> None:
    """Nothing is said in clear beyond this machine unless somebody insists."""
    tls = nats.tls
    if (tls.cert is None) != (tls.key is None):
        wrong("nats.tls.cert" if tls.cert is None else "nats.tls.key", "a certificate and its key belong together")
    if tls.cert is not None and tls.ca is None:
        wrong("nats.tls.ca", "must be set as well: without it nobody can be verified")
    if not nats.url and tls.ca is not None and tls.cert is None:
        wrong("nats.tls.cert", "the embedded server needs a certificate and its key")
    if nats.insecure or tls.ca is not None:
        return
    remedy = "set nats.tls (ca, cert, key), or take the risk with nats.insecure = true (--insecure)"
    if not nats.url and not is_loopback(nats.host):
        wrong("nats.host", f"refusing to listen on {nats.host} without TLS: {remedy}")
    for url in plain_and_far(urls):
        wrong("nats.url", f"refusing to speak to {url} in clear: use tls://, {remedy}")


def _check_substrate(config: Config, wrong: Any) -> None:
    urls = servers_of(config.feed.url)
    if not urls:
        wrong("feed.url", "substrate needs the address of a node's JSON-RPC, as ws://127.0.0.1:9944")
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            wrong("feed.url", f"{url} is no ws://host:port or wss://host:port")
        elif parts.scheme == "ws" and not is_loopback(parts.hostname) and not config.feed.insecure:
            wrong("feed.url", f"{url} would be followed in clear beyond this machine: use wss://, or set feed.insecure")
    if config.genesis is None:
        wrong("genesis", "substrate needs the hash of the block to begin with; `overseer feed check` names one")
    if "chain_api" not in config.subsystems:
        wrong("subsystems", "feed.source = substrate needs chain_api")


def _check_url(url: str, wrong: Any) -> bool:
    """Whether it can be used; told when not."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("nats", "tls") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        wrong("nats.url", "must be nats://host:port or tls://host:port")
        return False
    if parts.username is not None or parts.password is not None:
        # Without the value: it may hold a password.
        wrong("nats.url", "must not carry a user, password or token: the accounts' keys are files in nats.keys_dir")
    elif not usable:
        wrong("nats.url", f"must be nats://host:port or tls://host:port, not {url!r}")
    else:
        return True
    return False


def _shown(value: Any) -> str:
    """A value as text, in the form the environment takes."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.hex()
        case list() | tuple():
            return ",".join(str(item) for item in cast(Sequence[object], value))
        case _:
            return str(value)


def _toml(value: Any) -> str:
    match value:
        case bool() | int() | float():
            return _shown(value)
        case list() | tuple():
            return json.dumps(list(cast(Sequence[object], value)))
        case msgspec.NODEFAULT:
            return '""  # must be set'
        case _:
            return json.dumps(_shown(value))
