"""Rate limits. The only module that imports limits and redis.

Counters are in the memory of this process, or in a Redis or Valkey server shared by several processes. While the server
is unavailable, each process counts in its memory: a limit that is too generous is better than rejecting every request.

redis is imported only if there is such a server, because a service without one would start later by a tenth.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

from limits import RateLimitItem, parse_many
from limits.aio.storage import RedisStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from pydantic import AfterValidator

from chassis import logs, metrics

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

OFF = "off"
STORAGE_TIMEOUT = 0.5
"""Seconds to wait for the shared storage, so that it can't delay requests."""
STORAGE_RETRY_DELAY = 5.0
"""Seconds to wait before trying an unavailable storage again."""

IN_MEMORY = "memory://"
_SHARED_SCHEMES = ("redis", "rediss", "valkey", "valkeys")

IN_FLIGHT_EXPIRY = 60
"""Seconds until the attempts in flight of a process that has crashed are forgotten."""

CAPACITY = 200_000
"""Counters that a process keeps in memory; they take about 70 MB."""
_SAMPLE = 5
"""Counters that are looked at whenever one is added."""

Limit = RateLimitItem
"""A number of attempts in a period of time."""

Counter = tuple[Limit, tuple[str, ...]]
"""A limit and the key that it counts by."""

T = TypeVar("T")

ERRORS = metrics.Counter("rate_limit_storage_errors_total", "Failed calls of the storage that processes share.")


def parse(text: str) -> list[Limit]:
    """Parse a setting such as `10/minute` or `10/minute; 100/hour`; raises ValueError.

    :return: the limits, shortest period first; empty for `off`
    """
    if text == OFF:
        return []
    try:
        items = parse_many(text)
    except ValueError:
        items = []
    if not items or not all(item.amount > 0 and item.get_expiry() > 0 for item in items):
        raise ValueError("must be like 10/minute, or 10/minute; 100/hour, or off")
    return sorted(items, key=Limit.get_expiry)


def multiplied(limit: Limit, factor: int) -> Limit:
    """This many times as much in the same period."""
    return type(limit)(limit.amount * factor, limit.multiples, limit.namespace)


def check_storage_url(url: str) -> str:
    """Return the URL if it is usable, without connecting; raises ValueError."""
    try:
        if url != IN_MEMORY:
            # Opens no connection, but rejects unknown options.
            _pool(url).make_connection()  # type: ignore[no-untyped-call]
    except _storage_errors():
        raise ValueError(f"must be {IN_MEMORY}, redis://host:6379/0 or valkey://host:6379/0") from None
    return url


def _check_limits(text: str) -> str:
    parse(text)
    return text


RateLimit = Annotated[str, AfterValidator(_check_limits)]
"""A setting such as `10/minute`, `10/minute; 100/hour` or `off`."""

StorageUrl = Annotated[str, AfterValidator(check_storage_url)]
"""A setting with the URL of a storage."""


def _storage_errors() -> tuple[type[Exception], ...]:
    from redis.exceptions import RedisError

    # A server that doesn't speak the Redis protocol can make the client raise TypeError or ValueError.
    return RedisError, OSError, TimeoutError, TypeError, ValueError


def _pool(storage_url: str) -> "ConnectionPool":
    """A pool for a shared storage, without opening a connection; raises ValueError for an unusable URL."""
    from redis.asyncio import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    scheme, separator, rest = storage_url.partition("://")
    if scheme not in _SHARED_SCHEMES or not rest:
        raise ValueError(storage_url)
    return ConnectionPool.from_url(
        # Valkey speaks the same protocol, but the client doesn't know its schemes.
        scheme.replace("valkey", "redis") + separator + rest,
        socket_timeout=STORAGE_TIMEOUT,
        socket_connect_timeout=STORAGE_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )


@dataclass(slots=True)
class _Count:
    amount: int
    expires_at: float
    position: int


class _MemoryStorage(Storage):
    """A bounded number of counters in memory. The library's own storage looks at every counter in every call.

    Adding a counter looks at a few random ones and removes those that have expired. If none has and the storage is
    full, it removes the one with the lowest count. So a flood of new counters replaces its own, and an attacker can't
    reset a counter without raising most of the others to its count.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self._capacity = capacity
        self._counts: dict[str, _Count] = {}
        # The same keys, to draw from.
        self._keys: list[str] = []

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        count = self._find(key)
        if count is None:
            self._make_room()
            count = self._counts[key] = _Count(0, time.time() + expiry, len(self._keys))
            self._keys.append(key)
        count.amount += amount
        if count.amount == 0:
            self._remove(key)
        return count.amount

    async def get(self, key: str) -> int:
        count = self._find(key)
        return 0 if count is None else count.amount

    async def get_expiry(self, key: str) -> float:
        count = self._find(key)
        return time.time() if count is None else count.expires_at

    async def clear(self, key: str) -> None:
        if key in self._counts:
            self._remove(key)

    async def check(self) -> bool:
        return True

    async def reset(self) -> int:
        removed = len(self._keys)
        self._counts.clear()
        self._keys.clear()
        return removed

    def _find(self, key: str) -> _Count | None:
        count = self._counts.get(key)
        if count is None or count.expires_at > time.time():
            return count
        self._remove(key)
        return None

    def _make_room(self) -> None:
        sample = {random.choice(self._keys) for _ in range(_SAMPLE)} if self._keys else set()  # noqa: S311
        remaining = {key: count for key in sample if (count := self._find(key))}
        if len(self._keys) >= self._capacity:
            self._remove(min(remaining, key=lambda key: remaining[key].amount))

    def _remove(self, key: str) -> None:
        # The last key takes the place of the removed one.
        position, last = self._counts[key].position, self._keys.pop()
        if last != key:
            self._keys[position] = last
            self._counts[last].position = position
        del self._counts[key]


class _SharedStorage(RedisStorage):
    async def get_expiry(self, key: str) -> float:
        """The time when a counter expires. The library rounds it to a second, so that clients would retry too soon."""
        redis = self.bridge.get_connection()  # type: ignore[attr-defined]
        milliseconds: int = await redis.pttl(self.bridge.prefixed_key(key))
        return time.time() + max(milliseconds, 0) / 1000


class RateLimits:
    """The counters of one process."""

    def __init__(self, storage_url: str) -> None:
        """Connections are opened on first use.

        :param storage_url: a URL that `check_storage_url` accepts
        """
        self._local = FixedWindowRateLimiter(_MemoryStorage())
        self._pool: ConnectionPool | None = None
        if storage_url != IN_MEMORY:
            self._pool = _pool(storage_url)
            storage = _SharedStorage("async+redis://", implementation="redispy", connection_pool=self._pool)  # type: ignore[arg-type]
            self._shared = FixedWindowRateLimiter(storage)
        self._storage_failed = False
        self._retry_at = 0.0
        self._log = logs.get("chassis.rate_limits")

    async def hit(self, counters: Sequence[Counter]) -> timedelta | None:
        """Count a call, until a limit rejects it. Returns None within all limits, or else the time to wait."""

        async def count(limiter: FixedWindowRateLimiter) -> timedelta | None:
            for position, (item, key) in enumerate(counters):
                # A call that one limit rejects isn't counted by the next ones: retrying too soon for the limit per
                # minute must not use up the limit per hour.
                if not await limiter.hit(item, _hashed(key)):
                    return await _wait(limiter, counters[position:])
            return None

        return await self._with_fallback(count)

    async def enter(self, counters: Sequence[Counter]) -> timedelta | None:
        """Begin an attempt, which must end with `leave`, unless a limit is used up by failures and attempts in flight.

        :return: None if the attempt may begin. Otherwise, the time to wait; zero if that depends on attempts in flight
        """
        keys = _distinct_keys(counters)

        async def begin(limiter: FixedWindowRateLimiter) -> timedelta | None:
            storage = limiter.storage
            in_flight = {key: await storage.incr(_in_flight(key), IN_FLIGHT_EXPIRY) for key in keys}
            # Read after the increment: an attempt counts its failure before it leaves, so none is overlooked.
            remaining = [(await limiter.get_window_stats(item, _hashed(key))).remaining for item, key in counters]
            if all(left >= in_flight[key] for left, (_, key) in zip(remaining, counters, strict=True)):
                return None
            await _end(limiter, keys)
            return await _wait(limiter, counters) if 0 in remaining else timedelta()

        return await self._with_fallback(begin)

    async def leave(self, counters: Sequence[Counter]) -> None:
        """End an attempt."""
        await self._with_fallback(lambda limiter: _end(limiter, _distinct_keys(counters)))

    async def count_failure(self, counters: Sequence[Counter]) -> None:
        """Count a failed attempt, before `leave`."""

        async def count(limiter: FixedWindowRateLimiter) -> None:
            for item, key in counters:
                await limiter.hit(item, _hashed(key))

        await self._with_fallback(count)

    async def add(self, counter: Counter) -> int:
        """Count one more, and return how many there are now in this period, also beyond the limit."""
        item, key = counter
        return await self._with_fallback(
            lambda limiter: limiter.storage.incr(item.key_for(_hashed(key)), item.get_expiry())
        )

    async def is_used_up(self, counter: Counter) -> bool:
        item, key = counter
        return not await self._with_fallback(lambda limiter: limiter.test(item, _hashed(key)))

    async def reset(self, counters: Sequence[Counter]) -> None:
        """Reset these counters."""

        async def clear(limiter: FixedWindowRateLimiter) -> None:
            for item, key in counters:
                await limiter.clear(item, _hashed(key))

        await self._with_fallback(clear)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.disconnect()

    async def _with_fallback(self, use: Callable[[FixedWindowRateLimiter], Awaitable[T]]) -> T:
        if self._pool is None or time.monotonic() < self._retry_at:
            return await use(self._local)
        try:
            async with asyncio.timeout(STORAGE_TIMEOUT):
                result = await use(self._shared)
        except _storage_errors() as error:
            ERRORS.add(1)
            if not self._storage_failed:
                # Not the message: it may contain the URL with its password.
                self._log.warning("rate limit storage unavailable, counting in memory", reason=type(error).__name__)
            self._storage_failed = True
            self._retry_at = time.monotonic() + STORAGE_RETRY_DELAY
            return await use(self._local)
        if self._storage_failed:
            self._storage_failed = False
            self._log.info("rate limit storage available again")
        return result


async def _wait(limiter: FixedWindowRateLimiter, counters: Sequence[Counter]) -> timedelta:
    """The time until none of these limits is used up."""
    windows = [await limiter.get_window_stats(item, _hashed(key)) for item, key in counters]
    resets = [window.reset_time - time.time() for window in windows if not window.remaining]
    return timedelta(seconds=max([1.0, *resets]))


async def _end(limiter: FixedWindowRateLimiter, keys: Sequence[tuple[str, ...]]) -> None:
    for key in keys:
        # Below zero, the attempt began in the other storage, or longer ago than IN_FLIGHT_EXPIRY.
        if await limiter.storage.incr(_in_flight(key), IN_FLIGHT_EXPIRY, -1) < 0:
            await limiter.storage.clear(_in_flight(key))


def _distinct_keys(counters: Sequence[Counter]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(key for _, key in counters))


def _in_flight(key: tuple[str, ...]) -> str:
    return f"IN_FLIGHT/{_hashed(key)}"


def _hashed(key: tuple[str, ...]) -> str:
    # Users sometimes type their password as the username, so only a hash is stored, in memory and in Redis.
    return hashlib.sha256("\0".join(key).encode()).hexdigest()
