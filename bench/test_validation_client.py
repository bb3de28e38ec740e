"""validation_client.py makes the calls that it reports, and computes ratios within a round."""

import asyncio
import random

import pytest

from bench.validation_client import OURS, REFERENCE, Cost, cost_of, measure, report, server


def test_every_client_is_measured_in_every_round() -> None:
    with server() as url:
        costs = asyncio.run(measure(url, rounds=2, calls=4, concurrency=2, rng=random.Random(1)))
    assert list(costs) == [REFERENCE, "httpx on aiohttp", "aiohttp", OURS]
    for each in costs.values():
        assert len(each) == 2
        assert all(cost.cpu > 0 for cost in each)
        assert all(cost.elapsed > 0 for cost in each)


@pytest.mark.parametrize(("calls", "concurrency", "made"), [(10, 1, 10), (10, 10, 10), (10, 3, 9)])
def test_the_cost_is_per_call(calls: int, concurrency: int, made: int) -> None:
    running: set[int] = set()
    most = 0
    count = 0

    async def call() -> None:
        nonlocal most, count
        number = count
        count += 1
        running.add(number)
        most = max(most, len(running))
        await asyncio.sleep(0.01)
        running.remove(number)

    cost = asyncio.run(cost_of(call, calls, concurrency))
    assert (count, most) == (made, concurrency)
    assert 0.01 / concurrency <= cost.elapsed < 0.1


def test_a_slow_round_changes_no_ratio() -> None:
    costs = {
        REFERENCE: [Cost(0.001, 0.002), Cost(0.001, 0.002), Cost(0.010, 0.020)],
        OURS: [Cost(0.001, 0.001), Cost(0.001, 0.001), Cost(0.010, 0.010)],
    }
    _, reference, ours = report(costs)
    assert reference.split() == ["httpx", "1000", "2000", "us", "1.00", "[1.00,", "1.00]"]
    assert ours.split()[-6:] == ["1000", "1000", "us", "0.50", "[0.50,", "0.50]"]
