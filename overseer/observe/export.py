"""Where spans go: an OTLP/HTTP collector, as `trace.endpoint` says. What it does not take in time is dropped; nothing waits for it.

async with exported(config, service="votes_db", run_id=run_id) as spans:    # None: nobody asked for traces
    ...
"""

import importlib
import logging
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from overseer.config import Config, TraceConfig
from overseer.observe.logs import logger

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    from overseer.observe.trace import Spans

__all__ = ["TracingNotInstalled", "exported", "require_tracing"]

# That the collector is away is said this often at most.
WARNING_S = 60.0
# Spans in one request, and how long the first of them waits for the others.
BATCH_SPANS = 512
BATCH_WAIT_MS = 500
_PATH = "/v1/traces"
_NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")

# Told of the collector's address and of how many spans it did not take.
Warn = Callable[[str, int], None]


class TracingNotInstalled(Exception):
    """`trace.endpoint` is set, and the packages that send traces are not there."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"trace.endpoint is set, and {missing} is not installed: pip install -e '.[trace]', or empty the setting")


def require_tracing(config: TraceConfig) -> None:
    """Before anything is started. Raises TracingNotInstalled."""
    if config.endpoint:
        try:
            for module in _NEEDED:
                importlib.import_module(module)
        except ImportError as error:
            raise TracingNotInstalled(error.name or "opentelemetry-sdk") from None


@asynccontextmanager
async def exported(config: Config, *, service: str, run_id: str = "", warn: Warn | None = None) -> AsyncGenerator["Spans | None"]:
    """The spans of `service` go out while the block runs; afterwards those that wait, for at most `trace.flush_ms`.

    `warn` says, in another thread, that the collector does not take them; by default the log does. Raises TracingNotInstalled.
    """
    if not config.trace.endpoint:
        yield None
        return
    require_tracing(config.trace)
    spans, close = _opened(config, service, run_id, warn or _log)
    try:
        yield spans
    finally:
        # A collector that hangs holds up neither the loop nor the end: the thread dies with the process.
        closing = threading.Thread(target=close, name="trace-flush", daemon=True)
        closing.start()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(closing.join, config.trace.flush_ms / 1000)


def _log(endpoint: str, spans: int) -> None:
    logger("overseer").warning("traces_not_taken", endpoint=endpoint, spans=spans)


def _opened(config: Config, service: str, run_id: str, warn: Warn) -> tuple["Spans", Callable[[], None]]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    from overseer.observe.trace import PinnedIds, Spans

    # Its own words would come with every batch; ours come once a minute.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    settings = config.trace
    resource = Resource.create(
        {
            "service.name": service,
            "service.namespace": "overseer",
            "service.instance.id": f"{config.node}.{service}.{os.getpid()}",
            "process.pid": os.getpid(),
            "overseer.node": config.node,
            "overseer.run_id": run_id,
        }
    )
    ids = PinnedIds()
    # By the trace's id alone: all processes keep the same traces, whoever began them.
    sampler = TraceIdRatioBased(settings.sample_percent / 100)
    provider = TracerProvider(sampler=sampler, resource=resource, id_generator=ids, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=_full(settings.endpoint), timeout=settings.timeout_ms / 1000)
    batches = BatchSpanProcessor(
        _watched(exporter, settings.endpoint, warn),
        max_queue_size=settings.queue_spans_max,
        schedule_delay_millis=BATCH_WAIT_MS,
        max_export_batch_size=min(BATCH_SPANS, settings.queue_spans_max),
    )
    provider.add_span_processor(batches)
    return Spans(provider, ids, node=config.node, name=service), provider.shutdown


def _full(endpoint: str) -> str:
    """As OTEL_EXPORTER_OTLP_ENDPOINT has it: the collector's address, without the path of traces."""
    base = endpoint.rstrip("/")
    return base if base.endswith(_PATH) else base + _PATH


def _watched(inner: "SpanExporter", endpoint: str, warn: Warn) -> "SpanExporter":
    """`inner`, and a warning when it fails, once a minute at most."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Watched(SpanExporter):
        lost = 0
        said = -WARNING_S

        def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
            result = inner.export(spans)
            if result is SpanExportResult.SUCCESS:
                return result
            self.lost += len(spans)
            now = time.monotonic()
            if now - self.said >= WARNING_S:
                warn(endpoint, self.lost)
                self.said, self.lost = now, 0
            return result

        def shutdown(self) -> None:
            inner.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return inner.force_flush(timeout_millis)

    return Watched()
