"""Logs: human on a terminal, JSON lines otherwise, on stderr; every line says which run, node, subsystem and process it is of.

    configure_logs(config.log, run_id=run_id, node=config.node)
    log = logger("votes_db")
    log.info("store_opened", tables=7)

The standard library's loggers (nats-py's) end in the same place. Secrets do not: values under telling names, and anything that
looks like an nkey seed or a password in a URL, are masked.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import IO, Any, TextIO, cast

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger, Processor

from overseer.config import LogConfig

__all__ = ["MASK", "Waits", "configure_logs", "logger", "mask_secrets"]

MASK = "[hidden]"
# What is longer is cut: a log line must not carry a message's body.
VALUE_CHARACTERS_MAX = 4_000
BYTES_SHOWN_MAX = 32

_TELLING = re.compile(
    r"(^|_)(secret|seed|password|passwd|token|authorization|credentials?|private_key|signing_key|nkey)s?($|_)", re.IGNORECASE
)
# An nkey seed or private key: S or P, a type letter, base32.
_NKEY = re.compile(r"\b[SP][ANCOUX][A-Z2-7]{50,}\b")
_URL_USER = re.compile(r"(?<=://)[^@\s]{1,512}(?=@)")
_BEARER = re.compile(r"\b(bearer|basic) +[\w.~+/=-]+", re.IGNORECASE)


def configure_logs(config: LogConfig, *, run_id: str, node: str, stream: IO[str] | None = None) -> None:
    """Set up all logging of this process. May be called again (a forked or re-executed process, a test)."""
    out = stream or sys.stderr
    on_terminal = out is not None and out.isatty()
    level = logging.getLevelNamesMapping()[config.level.upper()]
    human = config.format == "human" or (config.format == "auto" and on_terminal)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _Origin(run_id=run_id, node=node),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Masked after an exception has become text: a secret may be in it.
    last: list[Processor] = [mask_secrets, structlog.dev.ConsoleRenderer(colors=on_terminal)] if human else [mask_secrets, _json_line]
    text: list[Processor] = [structlog.processors.format_exc_info, *last]
    sink = _Sink(out)
    structlog.configure(
        processors=[*shared, *text],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, sink)),
        # Cached loggers would keep an earlier configuration.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sink)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *text],
    )
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def logger(subsystem: str) -> FilteringBoundLogger:
    """The logger of a subsystem, or of `overseer` itself."""
    return cast(FilteringBoundLogger, structlog.get_logger(subsystem=subsystem))


class Waits:
    """What one that tries again and again waits for: a line `event` when that changes, not one for each try. "": it goes on."""

    def __init__(self, log: FilteringBoundLogger, event: str = "waiting") -> None:
        self._log = log
        self._event = event
        self._told = ""

    def tell(self, error: str, **facts: object) -> None:
        if error == self._told:
            return
        self._told = error
        if error:
            self._log.warning(self._event, error=error, **facts)
        else:
            self._log.info("goes_on", **facts)


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The processor that hides secrets, writes bytes as hex and cuts what is too long."""
    for key, value in event.items():
        event[key] = MASK if _TELLING.search(key) and value is not None else _clean(value)
    return event


def _clean(value: Any) -> Any:
    match value:
        case str():
            masked = _masked(value)
            return masked if len(masked) <= VALUE_CHARACTERS_MAX else f"{masked[:VALUE_CHARACTERS_MAX]}..."
        case bytes():
            return value.hex() if len(value) <= BYTES_SHOWN_MAX else f"{value[:BYTES_SHOWN_MAX].hex()}... ({len(value)} bytes)"
        case None | bool() | float():
            return value
        case int():
            # JSON's integers end at 64 bits here.
            return value if -(2**63) <= value < 2**64 else str(value)
        case Mapping():
            pairs = cast(Mapping[object, object], value).items()
            return {str(k): MASK if _TELLING.search(str(k)) else _clean(v) for k, v in pairs}
        case list() | tuple():
            return [_clean(item) for item in cast(list[object], value)]
        case _:
            return _clean(str(value))


def _masked(text: str) -> str:
    return _BEARER.sub(MASK, _URL_USER.sub(MASK, _NKEY.sub(MASK, text)))


def _json_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event).decode()


class _Origin:
    """Adds who writes. The process id is asked for each time: a forked child must not pass for its parent."""

    def __init__(self, *, run_id: str, node: str) -> None:
        self._fields = {"run_id": run_id, "node": node}

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.update(self._fields, pid=os.getpid())
        event.setdefault("subsystem", "overseer")
        return event


class _Sink:
    """Writes whole lines. That nobody reads them (started with 2>&-), or no more (a closed terminal), must not stop a node."""

    def __init__(self, out: IO[str] | None) -> None:
        self._out = out

    def write(self, text: str) -> None:
        if self._out is None:
            return
        try:
            self._out.write(text)
        except (OSError, ValueError):
            return

    def flush(self) -> None:
        if self._out is None:
            return
        try:
            self._out.flush()
        except (OSError, ValueError):
            return
