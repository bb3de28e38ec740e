"""The load of bench/services.py, and its table."""

import asyncio
from collections import Counter

import pytest

from bench.contenders import CALLS, FLOOR, OURS, USUAL
from bench.http_load import Load, percentile, request_bytes, send
from bench.services import table_of_calls


async def test_every_request_is_sent_and_answered_once() -> None:
    open_connections, requests = set(), []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(writer)
        while head := (await reader.read(1000)):
            requests.append(head)
            status = b"200 OK" if len(requests) % 2 else b"503 Service Unavailable"
            writer.write(b"HTTP/1.1 " + status + b"\r\nX-Y: 1\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    request = request_bytes("POST", f"{url}/a?b=1", {"X-Key": "k"}, b"{}")
    load = await send(url, request, count=10, connections=3)
    server.close()
    assert load.statuses == Counter({200: 5, 503: 5})
    assert (len(load.latencies), len(open_connections)) == (10, 3)
    assert requests == [request] * 10
    assert request.startswith(b"POST /a?b=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert request.endswith(b"\r\nContent-Length: 2\r\n\r\n{}")


def test_a_percentile_of_few_latencies() -> None:
    assert percentile([0.5], 99) == 0.5
    assert percentile([float(number) for number in range(101)], 99) == pytest.approx(99)


def test_the_table_has_medians_and_ratios() -> None:
    costs = {FLOOR: 0.001, USUAL: 0.004, OURS: 0.002}
    found = {
        (call.name, name): [(Load(2.0, [0.01] * 100), cost * factor) for factor in (1, 50, 1)]
        for call in CALLS
        for name, cost in costs.items()
    }
    rows = list(table_of_calls(found))
    assert len(rows) == 2 + 3 * len(CALLS)
    assert rows[2] == "| `GET /products/500` | floor | 50 | 1,000 | 1.0 | 0.25 | 10.0 | 10.0 |"
    assert rows[4] == "|  | ours | 50 | 2,000 | 2.0 | 0.50 | 10.0 | 10.0 |"
