"""An OTLP/HTTP collector on loopback: what processes export is kept in memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


class Seen(NamedTuple):
    """A span as it was received, ids in hexadecimal, with whose it is."""

    name: str
    kind: int
    trace: str
    span: str
    parent: str
    service: str
    instance: str
    pid: int
    attributes: dict[str, str | int]


class Collector:
    """What was received until now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Seen] = []
        self.url = ""

    def spans(self) -> list[Seen]:
        with self._lock:
            return list(self._spans)

    def trace(self, trace: str) -> list[Seen]:
        return [span for span in self.spans() if span.trace == trace]

    def take(self, body: bytes) -> None:
        found: list[Seen] = []
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            who = _plain(resource.resource.attributes)
            for scope in resource.scope_spans:
                found += [
                    Seen(
                        span.name,
                        span.kind,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        str(who["service.name"]),
                        str(who["service.instance.id"]),
                        int(who["process.pid"]),
                        _plain(span.attributes),
                    )
                    for span in scope.spans
                ]
        with self._lock:
            self._spans += found


def _plain(attributes: Iterator[KeyValue]) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces", self.path
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            body = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
