"""The trace context of a request: what is logged, and what other services get."""

import httpx
import pytest
from starlette.datastructures import Headers

from chassis.http.trace_context import MAX_TRACESTATE_LENGTH, read
from testkit.library import logged

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "sent",
    [
        {"traceparent": f"00-{TRACE}-{PARENT}-01"},
        {"traceparent": f"00-{TRACE}-{PARENT}-ff", "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"},
        {"traceparent": f"01-{TRACE}-{PARENT}-00"},
        {"traceparent": f"cc-{TRACE}-{PARENT}-01-what-the-future-brings"},
    ],
)
async def test_a_sane_trace_is_logged_and_sent_on_as_it_came(client: httpx.AsyncClient, sent: dict[str, str]) -> None:
    with logged() as log:
        answer = await client.get("/books/1", headers={"X-Request-ID": "mine", **sent})
    assert answer.json()["sent_on"] == {"X-Request-ID": "mine", **sent}
    assert [line["trace_id"] for line in log.requests] == [TRACE]


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
        f"cc-{TRACE}-{PARENT}-01-é",
    ],
)
async def test_a_trace_that_is_not_sane_is_ignored_and_its_state_too(client: httpx.AsyncClient, sent: str) -> None:
    headers = {b"X-Request-ID": b"mine", b"traceparent": sent.encode("latin-1"), b"tracestate": b"rojo=1"}
    with logged() as log:
        answer = await client.get("/books/1", headers=headers)
    assert answer.json()["sent_on"] == {"X-Request-ID": "mine"}
    assert "trace_id" not in log.requests[0]


async def test_of_two_traces_none_is_believed_and_states_are_joined(client: httpx.AsyncClient) -> None:
    sane = ("traceparent", f"00-{TRACE}-{PARENT}-01")
    answer = await client.get("/books/1", headers=[sane, sane])
    assert set(answer.json()["sent_on"]) == {"X-Request-ID"}
    answer = await client.get("/books/1", headers=[sane, ("tracestate", "rojo=1"), ("tracestate", "congo=2")])
    assert answer.json()["sent_on"]["tracestate"] == "rojo=1,congo=2"


@pytest.mark.parametrize("state", ["", "x" * 513, "café"])
async def test_a_trace_without_a_sane_state_goes_without_it(client: httpx.AsyncClient, state: str) -> None:
    headers = {b"traceparent": f"00-{TRACE}-{PARENT}-01".encode(), b"tracestate": state.encode("latin-1")}
    answer = await client.get("/books/1", headers=headers)
    assert set(answer.json()["sent_on"]) == {"X-Request-ID", "traceparent"}


@pytest.mark.parametrize(("length", "is_sent_on"), [(MAX_TRACESTATE_LENGTH, True), (MAX_TRACESTATE_LENGTH + 1, False)])
def test_a_long_tracestate_is_dropped_without_its_trace(length: int, is_sent_on: bool) -> None:  # noqa: FBT001
    state = f"a={'x' * 200},b={'x' * 200},c="
    state += "x" * (length - len(state))
    trace = read(Headers({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": state}))
    assert trace is not None
    assert trace[0] == "a" * 32
    assert trace[1].get("tracestate") == (state if is_sent_on else None)
