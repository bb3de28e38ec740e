"""W3C Trace Context, https://www.w3.org/TR/trace-context/: the trace that a request belongs to.

Without `chassis.http.tracing`, a service passes the trace of a request on to the calls that it makes for it, and the
parent stays the caller's span. With it, the request has a span, and so has each call, which is the parent of what the
other service records.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import CarrierT, Getter, default_getter
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers

MAX_TRACESTATE_LENGTH = 512
"""Characters. The specification asks to propagate at least this many; a longer header would cost a millisecond."""


class Propagator(TraceContextTextMapPropagator):
    """Ignores more than one `traceparent`, and a long `tracestate`."""

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        parents = getter.get(carrier, "traceparent") or []
        if len(parents) != 1:
            return Context() if context is None else context
        states = getter.get(carrier, "tracestate") or []
        if sum(map(len, states)) > MAX_TRACESTATE_LENGTH:
            states = []
        return super().extract({"traceparent": parents, "tracestate": states}, context)


_PROPAGATOR = Propagator()
_TRACER = trace.get_tracer("chassis")
_NOT_RECORDED = nullcontext(trace.INVALID_SPAN)


def read(headers: Headers) -> tuple[str, dict[str, str]] | None:
    """The trace id of a request, and the headers to send on while no span is current.

    None if the request has neither a span nor exactly one valid `traceparent`.
    """
    own = trace.get_current_span().get_span_context()
    if own.is_valid:
        return trace.format_trace_id(own.trace_id), {}
    parents = headers.getlist("traceparent")
    if len(parents) != 1:  # Most requests have none: they cost no more than this.
        return None
    context = _PROPAGATOR.extract({"traceparent": parents, "tracestate": headers.getlist("tracestate")}, Context())
    span = trace.get_current_span(context).get_span_context()
    if not span.is_valid:
        return None
    sent_on: dict[str, str] = {}
    _PROPAGATOR.inject(sent_on, context)
    return trace.format_trace_id(span.trace_id), sent_on


def write(headers: dict[str, str]) -> None:
    """Make the current span, if there is one, the parent of what the receiver of these headers records."""
    _PROPAGATOR.inject(headers)


def call_span(name: str) -> AbstractContextManager[Span]:
    """The span of a call to another service, which is current in the context; it does nothing unless there is a trace.

    :param name: of few different values, without anything that a client has chosen
    """
    if not trace.get_current_span().is_recording():
        return _NOT_RECORDED  # Starting a span that is not recorded would take 7 µs.
    return _TRACER.start_as_current_span(
        # The message of an exception may contain anything.
        name,
        kind=SpanKind.CLIENT,
        record_exception=False,
        set_status_on_exception=False,
    )


def set_outcome(attributes: Mapping[str, str | int], error: str | None) -> None:
    """Describe the current span, if it is recorded.

    :param attributes: exported if `chassis.http.tracing` lists their names
    :param error: a short name for what went wrong; None for a success
    """
    span = trace.get_current_span()
    span.set_attributes(attributes)
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)
