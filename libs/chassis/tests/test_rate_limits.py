"""Counters in memory. The user service tests the limits themselves, in memory and in Valkey."""

import asyncio
import time

from chassis.rate_limits import IN_MEMORY, RateLimits, _MemoryStorage, parse

[LIMIT] = parse("3/hour")


async def test_a_hit_takes_the_same_time_with_many_counters() -> None:
    async def best_time(counters: int) -> float:
        """The seconds of a hit, with this many other counters that have not expired."""
        limits = RateLimits(IN_MEMORY)
        for number in range(counters):
            await limits.hit([(LIMIT, ("existing", str(number)))])
        await asyncio.sleep(0)
        rounds = []
        for number in range(10):
            started = time.perf_counter()
            for position in range(10):
                await limits.hit([(LIMIT, ("new", str(number), str(position)))])
                # A task that the hit has started is part of it.
                await asyncio.sleep(0)
            rounds.append((time.perf_counter() - started) / 10)
        return min(rounds)

    few, many = await best_time(100), await best_time(20_000)
    assert many < 0.001
    assert many < 20 * few


async def test_a_full_storage_keeps_the_counters_with_the_most_attempts() -> None:
    storage = _MemoryStorage(capacity=1000)
    for _ in range(3):
        await storage.incr("guesses", 3600)
    for number in range(20_000):
        await storage.incr(f"flood {number}", 3600)
    assert await storage.get("guesses") == 3
    assert await storage.reset() == 1000


async def test_expired_counters_make_room_first() -> None:
    storage = _MemoryStorage(capacity=1000)
    for number in range(1000):
        await storage.incr(f"expired {number}", 0)
    for number in range(500):
        await storage.incr(f"live {number}", 3600)
    assert [await storage.get(f"live {number}") for number in range(500)] == [1] * 500
    assert await storage.reset() < 1000


async def test_a_counter_begins_again_once_it_has_expired() -> None:
    storage = _MemoryStorage()
    assert await storage.incr("key", 0) == 1
    assert await storage.get("key") == 0
    assert await storage.incr("key", 3600) == 1
    assert await storage.get_expiry("key") > time.time() + 3500
    assert await storage.incr("key", 3600, -1) == 0
    assert await storage.reset() == 0
