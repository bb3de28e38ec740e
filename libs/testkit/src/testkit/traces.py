"""Receives the spans of the services by OTLP over HTTP, and shows traces as text.

python -m testkit.traces --port 4318    prints each trace that arrives
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

QUIET = 6.0
"""Seconds without a further span after which a trace is printed. The services send theirs every five seconds."""


@dataclass(frozen=True)
class Span:
    trace_id: str
    id: str
    parent_id: str
    """Empty for the first span of a trace."""
    name: str
    start: int
    """In nanoseconds, like `end`."""
    end: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    has_failed: bool
    status_message: str
    events: int

    @property
    def service(self) -> str:
        return str(self.resource["service.name"])

    @property
    def result(self) -> str:
        """The status or the outcome of a request, and what went wrong."""
        names = ("http.response.status_code", "validation.outcome", "error.type")
        found = [str(self.attributes[name]) for name in names if name in self.attributes]
        return " ".join(dict.fromkeys(found))


class Receiver:
    """A collector on a loopback port. It keeps what it gets, and answers with `status` after `delay` seconds."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.bodies: list[bytes] = []
        self.status = 200
        self.delay = 0.0

    @property
    def spans(self) -> list[Span]:
        """All spans so far, in the order of their start."""
        return sorted((span for body in self.bodies for span in _decoded(body)), key=lambda span: span.start)


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Receive spans; a port is chosen by default."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(receiver.delay)
            receiver.bodies.append(body)
            with suppress(ConnectionError):
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver = Receiver(server)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _decoded(body: bytes) -> Iterator[Span]:
    for each in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _values(each.resource.attributes)
        for scope in each.scope_spans:
            for span in scope.spans:
                yield Span(
                    trace_id=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    name=span.name,
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=_values(span.attributes),
                    resource=resource,
                    has_failed=span.status.code == Status.STATUS_CODE_ERROR,
                    status_message=span.status.message,
                    events=len(span.events),
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def as_text(spans: Sequence[Span]) -> str:
    """The spans of one trace, each below its parent: when it started and how long it took, in ms, and what it was."""
    ids = {span.id for span in spans}
    first = min(span.start for span in spans)
    lines = [" start  took"]

    def add(span: Span, depth: int) -> None:
        start, took = ((end - begin) / 1e6 for begin, end in ((first, span.start), (span.start, span.end)))
        words = f"{span.service}: {span.name} {span.result}".rstrip()
        lines.append(f"{start:6.1f}{took:6.1f}  {'  ' * depth}{words}")
        for child in sorted((each for each in spans if each.parent_id == span.id), key=lambda each: each.start):
            add(child, depth + 1)

    for span in sorted(spans, key=lambda each: each.start):
        if span.parent_id not in ids:
            add(span, 0)
    return "\n".join(lines)


def finished(receiver: Receiver, quiet: float = QUIET) -> Iterator[list[Span]]:
    """Each trace of which no further span has arrived for `quiet` seconds, for ever."""
    bodies = 0
    traces: dict[str, list[Span]] = {}
    last_arrival: dict[str, float] = {}
    while True:
        new = receiver.bodies[bodies:]
        bodies += len(new)
        for span in (span for body in new for span in _decoded(body)):
            traces.setdefault(span.trace_id, []).append(span)
            last_arrival[span.trace_id] = time.monotonic()
        for trace_id in [each for each, arrival in last_arrival.items() if time.monotonic() - arrival >= quiet]:
            del last_arrival[trace_id]
            yield traces.pop(trace_id)
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="traces", description="Print the traces of the services.")
    parser.add_argument("--port", type=int, default=4318, help="of this machine")
    with receiving(parser.parse_args().port) as receiver, suppress(KeyboardInterrupt):
        print(f"Start the services with OTEL_EXPORTER_OTLP_ENDPOINT={receiver.url}. Ctrl-C stops.", flush=True)
        for trace in finished(receiver):
            print(f"\n{as_text(trace)}", flush=True)


if __name__ == "__main__":
    main()
