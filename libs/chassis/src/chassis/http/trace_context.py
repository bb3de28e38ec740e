"""W3C Trace Context, https://www.w3.org/TR/trace-context/, for services that record no spans of their own.

Such a service passes the trace of a request on to the calls that it makes for it. The parent stays the caller's span.
"""

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers

MAX_TRACESTATE_LENGTH = 512
"""Characters. The specification asks to propagate at least this many; a longer header would cost a millisecond."""

_PROPAGATOR = TraceContextTextMapPropagator()


def read(headers: Headers) -> tuple[str, dict[str, str]] | None:
    """The trace id, and the headers to send on; None if there is no valid `traceparent`, or more than one."""
    parents = headers.getlist("traceparent")
    if len(parents) != 1:  # Most requests have none: they cost no more than this.
        return None
    states = headers.getlist("tracestate")
    if sum(map(len, states)) > MAX_TRACESTATE_LENGTH:
        states = []
    received = {"traceparent": parents, "tracestate": states}
    context = _PROPAGATOR.extract(received, Context())
    span = trace.get_current_span(context).get_span_context()
    if not span.is_valid:
        return None
    sent_on: dict[str, str] = {}
    _PROPAGATOR.inject(sent_on, context)
    return trace.format_trace_id(span.trace_id), sent_on
