"""How often something may be done, through limits: the only module that imports it, or redis.

Counts are kept in the memory of this process, or in a Redis or Valkey that several processes share. Where that does
not answer, this process counts for itself until it does: a limit that is a little too generous is better than nobody
being able to log in.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chassis import logs

OFF = "off"
STORAGE_TIMEOUT = 0.5
"""Seconds that the shared storage has for an answer, so that a login does not wait for it."""
STORAGE_PAUSE = 5.0
"""Seconds after which a storage that was away is asked again."""

IN_MEMORY = "memory://"
_SHARED = ("redis", "rediss", "valkey", "valkeys")

# What is not Redis at all may make the client stumble over its answers.
_AWAY = (RedisError, OSError, TimeoutError, TypeError, ValueError)

Limit = RateLimitItem
"""So many, in such a time."""

T = TypeVar("T")


def parse(text: str) -> list[Limit]:
    """The limits of a setting, `10/minute` or `10/minute; 100/hour`, the shortest first; none where it is `off`.

    Raises ValueError.
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


def check_storage_url(url: str) -> str:
    """Return it, or raise ValueError."""
    try:
        if url != IN_MEMORY:
            # Connects to nothing, and notices an option that no connection has.
            _pool(url).make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, RedisError):
        raise ValueError(f"must be {IN_MEMORY}, redis://host:6379/0 or valkey://host:6379/0") from None
    return url


def _pool(storage_url: str) -> ConnectionPool:
    """Connections to a shared storage, none of them made yet; raises ValueError for what is no address of one."""
    scheme, separator, rest = storage_url.partition("://")
    if scheme not in _SHARED or not rest:
        raise ValueError(storage_url)
    return ConnectionPool.from_url(
        # One protocol, one client; it has no name for Valkey's.
        scheme.replace("valkey", "redis") + separator + rest,
        socket_timeout=STORAGE_TIMEOUT,
        socket_connect_timeout=STORAGE_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )


class RateLimits:
    """The counts of one process; made in the application factory, closed in its lifespan."""

    def __init__(self, storage_url: str) -> None:
        """Open nothing yet.

        :param storage_url: as `check_storage_url` accepts it
        """
        self._local = FixedWindowRateLimiter(MemoryStorage())
        self._pool: ConnectionPool | None = None
        if storage_url != IN_MEMORY:
            self._pool = _pool(storage_url)
            storage = RedisStorage("async+redis://", implementation="redispy", connection_pool=self._pool)  # type: ignore[arg-type]
            self._shared = FixedWindowRateLimiter(storage)
        self._is_away = False
        self._ask_again_at = 0.0
        self._log = logs.get("user_service.rate_limits")

    async def hit(self, item: Limit, *key: str) -> timedelta | None:
        """Count one more for this key. None if that is within the limit, or else how long until the next one is."""
        name = _name(key)

        async def count(limiter: FixedWindowRateLimiter) -> timedelta | None:
            if await limiter.hit(item, name):
                return None
            window = await limiter.get_window_stats(item, name)
            return timedelta(seconds=max(1.0, window.reset_time - time.time()))

        return await self._with_fallback(count)

    async def forget(self, item: Limit, *key: str) -> None:
        """Start anew for this key."""
        await self._with_fallback(lambda limiter: limiter.clear(item, _name(key)))

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.disconnect()

    async def _with_fallback(self, use: Callable[[FixedWindowRateLimiter], Awaitable[T]]) -> T:
        if self._pool is None or time.monotonic() < self._ask_again_at:
            return await use(self._local)
        try:
            async with asyncio.timeout(STORAGE_TIMEOUT):
                result = await use(self._shared)
        except _AWAY as error:
            if not self._is_away:
                # Only the kind of the error: its text may hold the address, and with it a password.
                self._log.warning("rate limit storage away, counting in memory", reason=type(error).__name__)
            self._is_away = True
            self._ask_again_at = time.monotonic() + STORAGE_PAUSE
            return await use(self._local)
        if self._is_away:
            self._is_away = False
            self._log.info("rate limit storage is back")
        return result


def _name(key: tuple[str, ...]) -> str:
    # People type passwords into the field for the name: what is kept is a hash, here and in the shared storage.
    return hashlib.sha256("\0".join(key).encode()).hexdigest()
