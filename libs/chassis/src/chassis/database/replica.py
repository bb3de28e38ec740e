"""Reads that may be a moment old: from a replica of the database while it answers, otherwise from the primary.

A replica is behind its primary by any time, so the caller decides which reads may use it: never one that decides what
a client may do. docs/decisions/0046 has the reasons.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from chassis import logs
from chassis.database.engines import Timeouts, postgresql_engine
from chassis.database.slow_statements import log_slow_statements
from chassis.database.transactions import Database, Reads
from chassis.errors import DatabaseBusy, DatabaseUnavailable, DomainError
from chassis.metrics import Gauge
from chassis.thread_pool import BoundedThreadPool

if TYPE_CHECKING:
    from chassis.settings import ServiceSettings

R = TypeVar("R")
P = ParamSpec("P")
T = TypeVar("T")

RETRY_INTERVAL = 5.0
"""Seconds between two attempts to use a replica that did not answer."""

POOL_TIMEOUT = 2.0
"""Seconds to wait for a connection to the replica, for each of its hosts, and for a lock: there is the primary."""

CONNECTION_LIFETIME = 60
"""Seconds after which a connection is replaced, so that it leaves a replica that was taken out."""

REPLACED = Gauge(
    "read_replica_replaced", "Processes that read from the primary because their replica is busy or unavailable."
)


class ReplicaFirst(Generic[R]):
    """Implements `chassis.use_cases.Transactions` for use cases whose reads may be a moment old."""

    def __init__(
        self, url: str, primary: Database[R], repositories: Callable[[Session], R], settings: "ServiceSettings"
    ) -> None:
        """:param url: of the replica, as `chassis.database.url.normalise` returns it with `replica=True`"""
        timeouts = Timeouts(min(POOL_TIMEOUT, settings.database_pool_timeout), settings.database_timeout)
        readers = settings.database_pool_size - settings.database_pool_size // 2
        engine = postgresql_engine(url, readers, timeouts, writes=False, connection_lifetime=CONNECTION_LIFETIME)
        if settings.slow_statement_seconds:
            log_slow_statements(engine, settings.slow_statement_seconds)
        threads = BoundedThreadPool("replica-read", readers, timeouts.pool_timeout, DatabaseBusy, timeouts.run_timeout)
        self._replica = Reads(engine, threads, repositories)
        self._primary = primary
        self._longest = timeouts.pool_timeout + timeouts.run_timeout
        self._is_out = False
        self._next_attempt = 0.0
        self._log = logs.get("chassis.database")

    async def read(self, work: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` on the replica, or on the primary if the replica is busy or unavailable.

        Raises as `Database.read`.
        """
        if time.monotonic() < self._next_attempt:
            return await self._primary.read(work, *args, **kwargs)
        was_out = self._is_out
        if was_out:
            # The others keep reading from the primary meanwhile.
            self._next_attempt = time.monotonic() + self._longest
        try:
            result = await self._replica.read(work, *args, **kwargs)
        except (DatabaseBusy, DatabaseUnavailable):
            self._next_attempt = time.monotonic() + RETRY_INTERVAL
            self._set_out(is_out=True)
            return await self._primary.read(work, *args, **kwargs)
        except DomainError:  # The replica has answered, such as that there is no such row.
            self._use_again(was_out=was_out)
            raise
        self._use_again(was_out=was_out)
        return result

    async def write(self, work: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._primary.write(work, *args, **kwargs)

    def close(self) -> None:
        """Wait for running reads of the replica to finish, and close its connections."""
        self._replica.close()

    def _use_again(self, *, was_out: bool) -> None:
        if was_out:
            self._next_attempt = 0.0
            self._set_out(is_out=False)

    def _set_out(self, *, is_out: bool) -> None:
        if is_out == self._is_out:
            return
        self._is_out = is_out
        REPLACED.set(is_out)
        if is_out:
            self._log.warning("reading from the primary, because the replica is busy or unavailable")
        else:
            self._log.info("reading from the replica again")
