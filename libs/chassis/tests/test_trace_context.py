"""The limit of what is passed on of a trace."""

import pytest
from starlette.datastructures import Headers

from chassis.http.trace_context import MAX_TRACESTATE_LENGTH, read

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize(("length", "is_sent_on"), [(MAX_TRACESTATE_LENGTH, True), (MAX_TRACESTATE_LENGTH + 1, False)])
def test_a_long_tracestate_is_dropped_without_its_trace(length: int, is_sent_on: bool) -> None:  # noqa: FBT001
    state = f"a={'x' * 200},b={'x' * 200},c="
    state += "x" * (length - len(state))
    trace = read(Headers({"traceparent": TRACEPARENT, "tracestate": state}))
    assert trace is not None
    assert trace[0] == "a" * 32
    assert trace[1].get("tracestate") == (state if is_sent_on else None)
