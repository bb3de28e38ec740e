"""The tables of bench/data_scale.py and bench/load_scale.py."""

import asyncio
import itertools
from collections import Counter

from bench import data_scale, load_scale
from bench.data_scale import Call, Cost
from bench.http_load import CLOSED, Load, request_bytes, send


async def test_a_connection_that_is_closed_is_counted_and_replaced() -> None:
    answers = itertools.cycle((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b""))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000) and (sent := next(answers)):
            writer.write(sent)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    load = await send(url, request_bytes("GET", url), count=6, connections=1)
    server.close()
    assert (load.statuses, len(load.latencies)) == (Counter({200: 3, CLOSED: 3}), 3)


def test_latencies_are_compared_between_the_largest_and_the_smallest_size() -> None:
    calls = [Call("flat", lambda _: None), Call("grows", lambda _: None)]
    costs = {
        ("flat", 10_000): Cost([0.002, 0.002, 0.5], cpu=0.003),
        ("flat", 1_000_000): Cost([0.004, 0.003, 0.004], cpu=0.006),
        ("grows", 10_000): Cost([0.002], cpu=0.0),
        ("grows", 1_000_000): Cost([0.0042], cpu=0.004),
    }
    assert [*data_scale.table(costs, calls)] == [
        "| call | 10,000 | 1,000,000 | ratio | CPU | CPU ratio |",
        "|---|---:|---:|---:|---:|---:|",
        "| `flat` | 2.0 | 4.0 | 2.0 | 2.0 | 2.0 |",
        "| `grows` | 2.0 | 4.2 | **2.1** | 4.0 | - |",
    ]


def test_a_load_is_told_by_its_successes_and_other_responses() -> None:
    rounds = [
        (Load(2.0, [0.01] * 3, Counter({200: 200, 503: 99, CLOSED: 1})), 0.002),
        (Load(1.0, [0.02] * 3, Counter({200: 300})), 0.001),
        (Load(4.0, [0.05] * 3, Counter({200: 300})), 0.003),
    ]
    header, line, row = load_scale.table({("GET /", 2, 1024): rounds})
    assert row == "| `GET /` | 2 | 1,024 | 100 | 20 | 20 | 2.0 | 0 % closed, 11 % 503 |"
    assert header.count("|") == line.count("|") == row.count("|")
