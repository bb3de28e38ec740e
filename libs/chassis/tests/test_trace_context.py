"""The trace context of a request: what is logged, and what other services get."""

import httpx
import pytest
from opentelemetry import trace
from starlette.datastructures import Headers

from chassis.http.trace_context import MAX_TRACESTATE_LENGTH, Propagator, read
from testkit.library import logged

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("received", "sent_on"),
    [
        ({"traceparent": f"00-{TRACE}-{PARENT}-01"}, {}),
        ({"traceparent": f"00-{TRACE}-{PARENT}-00", "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"}, {}),
        (
            {"traceparent": f"00-{TRACE}-{PARENT}-03", "tracestate": "rojo=1 , congo=2"},
            {"tracestate": "rojo=1,congo=2"},
        ),
        # The fields of a newer version that this one knows too, with this version's number.
        ({"traceparent": f"01-{TRACE}-{PARENT}-00"}, {"traceparent": f"00-{TRACE}-{PARENT}-00"}),
        ({"traceparent": f"cc-{TRACE}-{PARENT}-01-more-\xe9"}, {"traceparent": f"00-{TRACE}-{PARENT}-01"}),
    ],
)
async def test_a_valid_trace_is_logged_and_sent_on(
    client: httpx.AsyncClient, received: dict[str, str], sent_on: dict[str, str]
) -> None:
    headers = {name.encode(): value.encode("latin-1") for name, value in received.items()}
    with logged() as log:
        answer = await client.get("/books/1", headers={b"X-Request-ID": b"mine", **headers})
    assert answer.json()["sent_on"] == {"X-Request-ID": "mine", **received, **sent_on}
    assert [(line["message"], line["trace_id"]) for line in log.lines] == [("request", TRACE)]


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "hunter2",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01 ,",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-{'x' * 8000}",
    ],
)
async def test_an_invalid_trace_is_ignored_with_its_state_and_without_a_warning(
    client: httpx.AsyncClient, sent: str
) -> None:
    headers = {b"X-Request-ID": b"mine", b"traceparent": sent.encode("latin-1"), b"tracestate": b"rojo=1"}
    with logged() as log:
        answer = await client.get("/books/1", headers=headers)
    assert answer.json()["sent_on"] == {"X-Request-ID": "mine"}
    assert [line["message"] for line in log.lines] == ["request"]
    assert "trace_id" not in log.requests[0]


async def test_two_traces_are_ignored_and_two_states_are_joined(client: httpx.AsyncClient) -> None:
    valid = ("traceparent", f"00-{TRACE}-{PARENT}-01")
    with logged() as log:
        answer = await client.get("/books/1", headers=[valid, valid])
    assert set(answer.json()["sent_on"]) == {"X-Request-ID"}
    assert "trace_id" not in log.requests[0]
    answer = await client.get("/books/1", headers=[valid, ("tracestate", "rojo=1"), ("tracestate", "congo=2")])
    assert answer.json()["sent_on"]["tracestate"] == "rojo=1,congo=2"


@pytest.mark.parametrize(
    "state",
    [
        "",
        "rojo",
        "Rojo=1",
        "rojo=caf\xe9",
        "rojo=1,rojo=2",
        ",".join(f"r{n}={'x' * 256}" for n in range(32)),
        ",".join(f"r{n}=1" for n in range(33)),
    ],
)
async def test_an_invalid_state_is_dropped_without_its_trace_and_without_a_warning(
    client: httpx.AsyncClient, state: str
) -> None:
    traceparent = f"00-{TRACE}-{PARENT}-01"
    headers = {b"traceparent": traceparent.encode(), b"tracestate": state.encode("latin-1")}
    with logged() as log:
        answer = await client.get("/books/1", headers={b"X-Request-ID": b"mine", **headers})
    assert answer.json()["sent_on"] == {"X-Request-ID": "mine", "traceparent": traceparent}
    assert [line["message"] for line in log.lines] == ["request"]


@pytest.mark.parametrize(("length", "is_sent_on"), [(MAX_TRACESTATE_LENGTH, True), (MAX_TRACESTATE_LENGTH + 1, False)])
def test_a_long_tracestate_is_dropped_without_its_trace(length: int, is_sent_on: bool) -> None:  # noqa: FBT001
    state = f"a={'x' * 200},b={'x' * 200},c="
    state += "x" * (length - len(state))
    trace = read(Headers({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": state}))
    assert trace is not None
    assert trace[0] == "a" * 32
    assert trace[1].get("tracestate") == (state if is_sent_on else None)


@pytest.mark.parametrize("states", [["rojo=1"], [f"rojo={'x' * 250}", f"congo={'x' * 250}", "a=1"], []])
@pytest.mark.parametrize("parents", [0, 1, 2])
def test_spans_have_the_parent_that_would_be_sent_on(parents: int, states: list[str]) -> None:
    """With tracing, FastAPI reads the trace by the propagator; without, `read` does."""
    received = [("traceparent", f"00-{TRACE}-{PARENT}-01")] * parents + [("tracestate", state) for state in states]
    headers = Headers(raw=[(name.encode(), value.encode()) for name, value in received])
    carrier = {name: headers.getlist(name) for name in headers}
    span = trace.get_current_span(Propagator().extract(carrier)).get_span_context()
    expected = read(headers)
    assert span.is_valid == (expected is not None) == (parents == 1)
    assert span.trace_state.to_header() == (expected[1].get("tracestate", "") if expected else "")
