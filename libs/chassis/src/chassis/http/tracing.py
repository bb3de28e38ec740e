"""Records a span for each request, call to another service and SQL statement, and exports them by OTLP over HTTP.

Imported only if tracing is on: it is the only module that imports the OpenTelemetry SDK. FastAPI records the requests,
and `chassis.http.trace_context` the calls. The SDK itself reads its environment variables, such as OTEL_TRACES_SAMPLER.
"""

import logging
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode
from sqlalchemy import Connection, Engine, ExceptionContext, event

from chassis import logs
from chassis.http.trace_context import Propagator

EXPORTED = frozenset(
    {
        "db.operation.name",
        "db.query.text",
        "db.system.name",
        "error.type",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "network.protocol.version",
        "url.scheme",
        "validation.outcome",
        "validation.tries",
    }
)
"""The attributes that leave the process. FastAPI also records the path, the query and the Host header."""

MAX_STATEMENT_LENGTH = 1000
"""Characters of a statement that are exported. Those for many rows are longer."""

FLUSH_TIMEOUT = 2.0
"""Seconds that a stopping service spends on sending the last spans."""

WARNING_INTERVAL = 60.0
"""Seconds between two log lines about a collector that takes no spans."""

_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+(\w+)")
_TRACER = trace.get_tracer("chassis")


class _Exporter(OTLPSpanExporter):
    """Runs in a thread of the SDK, which drops what it can't send. Requests never wait for it."""

    def __init__(self, endpoint: str) -> None:
        for logger in ("opentelemetry.exporter", "opentelemetry.util.re"):
            # The first would log each attempt, and the second quotes OTEL_EXPORTER_OTLP_HEADERS if they are malformed.
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        super().__init__(endpoint=f"{endpoint}/v1/traces")
        self._next_warning = 0.0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export([_public(span) for span in spans])
        if result is not SpanExportResult.SUCCESS and time.monotonic() >= self._next_warning:
            self._next_warning = time.monotonic() + WARNING_INTERVAL
            logs.get("chassis.http.tracing").warning(
                "the collector at OTEL_EXPORTER_OTLP_ENDPOINT took no spans; they are lost", spans=len(spans)
            )
        return result


def _public(span: ReadableSpan) -> ReadableSpan:
    """The span without what may be private: other attributes, and messages of errors."""
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes={name: value for name, value in (span.attributes or {}).items() if name in EXPORTED},
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


@contextmanager
def exporting(service: str, version: str, endpoint: str) -> Iterator[None]:
    """Record the spans of this process, and send them to a collector. Once per process.

    :param endpoint: the URL of the collector, without `/v1/traces`
    """
    resource = Resource.create(
        {
            "service.name": service,
            "service.version": version,
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        }
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Exporter(endpoint)))
    trace.set_tracer_provider(provider)
    # The default would also pass on the baggage of clients.
    propagate.set_global_textmap(Propagator())
    for name, listener in (
        ("before_cursor_execute", _start_statement),
        ("after_cursor_execute", _end_statement),
        ("handle_error", _fail_statement),
    ):
        event.listen(Engine, name, listener)
    try:
        yield
    finally:
        # A collector that hangs must not keep the service from stopping.
        flush = Thread(target=provider.shutdown, daemon=True)
        flush.start()
        flush.join(FLUSH_TIMEOUT)


def _start_statement(
    connection: Connection, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: object
) -> None:
    if not trace.get_current_span().is_recording():
        return
    operation = statement.split(maxsplit=1)[0]
    table = _TABLE.search(statement)
    context.span = _TRACER.start_span(
        f"{operation} {table[1]}" if table else operation,
        kind=SpanKind.CLIENT,
        attributes={
            "db.system.name": connection.dialect.name,
            "db.operation.name": operation,
            "db.query.text": statement[:MAX_STATEMENT_LENGTH],
        },
    )


def _end_statement(
    _connection: Connection, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: object
) -> None:
    if span := getattr(context, "span", None):
        span.end()


def _fail_statement(exception: ExceptionContext) -> None:
    if span := getattr(exception.execution_context, "span", None):
        span.set_attribute("error.type", type(exception.original_exception).__name__)
        span.set_status(StatusCode.ERROR)
        span.end()
