"""Queues for the threads of one pool."""

import asyncio
import gc
import threading

import pytest

from chassis.errors import Unavailable
from chassis.thread_pool import BoundedThreadPool


class Busy(Unavailable):
    code = "busy"
    detail = "Busy."


async def test_two_queues_alternate() -> None:
    first = BoundedThreadPool("test", 1, 10, Busy)
    second = BoundedThreadPool("test", 1, 10, Busy, beside=first)
    proceed, done = threading.Event(), []

    def work(name: str) -> None:
        proceed.wait()
        done.append(name)

    calls = [asyncio.ensure_future(first.run(work, f"first {number}")) for number in range(4)]
    await asyncio.sleep(0)
    calls += [asyncio.ensure_future(second.run(work, f"second {number}")) for number in range(2)]
    await asyncio.sleep(0)
    proceed.set()
    await asyncio.gather(*calls)
    first.close()
    assert done == ["first 0", "second 0", "first 1", "second 1", "first 2", "first 3"]


async def test_a_call_that_gives_up_leaves_its_place() -> None:
    first = BoundedThreadPool("test", 1, 10, Busy)
    second = BoundedThreadPool("test", 1, 0.01, Busy, beside=first)
    proceed = threading.Event()
    blocking = asyncio.ensure_future(first.run(proceed.wait))
    await asyncio.sleep(0)
    for _ in range(3):
        with pytest.raises(Busy):
            await second.run(int)
    proceed.set()
    await blocking
    assert (await second.run(int), await first.run(int)) == (0, 0)
    first.close()


async def test_calls_of_one_client_do_not_keep_out_another() -> None:
    pool = BoundedThreadPool("test", 2, 10, Busy)
    proceed, done = threading.Event(), []

    def work(name: str) -> None:
        proceed.wait()
        done.append(name)

    calls = [asyncio.ensure_future(pool.run_for("one", work, "one")) for _ in range(9)]
    await asyncio.sleep(0)
    calls.append(asyncio.ensure_future(pool.run_for("another", work, "another")))
    await asyncio.sleep(0)
    proceed.set()
    await asyncio.gather(*calls)
    assert "another" in done[:4]
    # One client alone uses all threads.
    together = threading.Barrier(2)
    async with asyncio.timeout(20):
        await asyncio.gather(*(pool.run_for("one", together.wait) for _ in range(2)))
    pool.close()


async def test_a_call_that_gives_up_lets_others_of_its_client_run() -> None:
    pool = BoundedThreadPool("test", 1, 0.01, Busy)
    proceed = threading.Event()
    blocking = asyncio.ensure_future(pool.run_for("one", proceed.wait))
    await asyncio.sleep(0)
    for client in ("one", "another", "one"):
        with pytest.raises(Busy):
            await pool.run_for(client, int)
    proceed.set()
    await blocking
    assert [await pool.run_for(client, int) for client in ("one", "another")] == [0, 0]
    pool.close()
    del blocking
    # No client is remembered.
    gc.collect()
    assert not pool._per_client
