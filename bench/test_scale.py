"""The tables of bench/data_scale.py, bench/load_scale.py and bench/scale_out.py."""

import asyncio
import itertools
from collections import Counter

from bench import data_scale, load_scale, scale_out
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


def scaled(rate: float, busy: float, locked: float = 0.0, *, product_service: float = 2e-3) -> scale_out.Sample:
    cpu = {**dict.fromkeys(scale_out.PARTS, 2e-4), scale_out.PRODUCTS_SERVICE: product_service}
    return scale_out.Sample(rate, 0.01, 0.02, cpu, busy, locked)


def test_the_scaling_is_explained_by_what_is_saturated() -> None:
    found = {("GET /", 1): scaled(480, 1.4), ("GET /", 2): scaled(700, 1.97), ("GET /", 4): scaled(480, 1.96)}
    [line] = scale_out.explanations(found, cores=2)
    assert line == (
        "- `GET /`: 4 processes of each service handle 1.0 times as many requests as 1. "
        "With 1, the product-service is saturated, at 96 % of a core. "
        "With 2, the machine is saturated: 1.97 of its 2 cores are busy. "
        "With 4, the machine is saturated: 1.96 of its 2 cores are busy, 0.62 of them with other programs. "
        "A request costs the services 1.00 times as much CPU time with 4 as with 1. By CPU time alone, enough cores "
        "would let 4 handle 2,000 per second, with 5.2 cores: 0.4 for PostgreSQL and 0.4 for HAProxy among them."
    )


def test_locks_are_told_from_a_lack_of_cores() -> None:
    found = {("GET /", 1): scaled(300, 1.0, 9.0), ("GET /", 2): scaled(300, 1.0, 14.5, product_service=3e-3)}
    [line] = scale_out.explanations(found, cores=4)
    assert "With 2, nothing is saturated, the product-service most, at 45 %: requests wait for each other." in line
    assert "1.45 times as much CPU time" in line
    assert line.endswith(
        "But 14.5 of 16 requests wait for a lock of PostgreSQL, which neither cores nor processes change."
    )


def test_every_cell_of_the_scale_out_table_has_a_column() -> None:
    header, line, row = scale_out.table({("GET /", 1): scaled(480, 1.4)}, cores=2)
    assert header.count("|") == line.count("|") == row.count("|")
    assert row == "| `GET /` | 1 | 480 | 10 | 20 | 200 | 2,000 | 200 | 200 | 200 | 2,800 | 1.34 | 1.40 | 0.0 |"
