"""Health checks: `/health/live` for liveness, `/health/ready` for readiness."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chassis import logs
from chassis.database.migrations import Migrations, SchemaState
from chassis.database.transactions import Database
from chassis.errors import READ_ERRORS, Draining, Unavailable
from chassis.http import problems
from chassis.http.routing import Router


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    status: Literal["ready"] = "ready"


class Health(BaseModel):
    """The state of a service, for people. Programs should use `/health/ready`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ok", "service": "a-service", "version": "1.0.0", "database": "ok"}]}
    )

    status: Literal["ok", "degraded"] = Field(description="`degraded`: a dependency does not respond.")
    service: str
    version: str
    database: Literal["ok", "unavailable"]


class NotReady(Unavailable):
    code = "not-ready"
    detail = "The service does not accept requests at the moment."


class MigrationsBehind(NotReady):
    code = "migrations-behind"
    detail = "The database has not been migrated to this version of the service yet."


class MigrationsAhead(NotReady):
    code = "migrations-ahead"
    detail = "A newer version of the service has migrated the database, which no longer supports this version."


CHECK_TIMEOUT = 0.5
"""Seconds that a service that was ready waits for its database in a check: less than a probe waits for the check."""


class Readiness:
    """Whether the service is ready: its database has answered and is migrated, and the service is not shutting down.

    A service that was ready stays so while its database does not answer: all instances lose it together, and a load
    balancer without any ready instance would answer instead of them. docs/decisions/0044 has the reasons.
    """

    def __init__(self, database: Database[Any], migrations: Migrations) -> None:
        self._database = database
        self._migrations = migrations
        self._draining = False
        self._was_ready = False
        self._log = logs.get("chassis.health")

    def is_draining(self) -> bool:
        """Whether SIGTERM has arrived."""
        return self._draining

    async def check(self) -> None:
        """Return if the service is ready; otherwise raise Draining, NotReady or a database error."""
        if self._draining:
            raise Draining
        try:
            async with asyncio.timeout(CHECK_TIMEOUT if self._was_ready else None):
                state = await self._database.inspect(self._migrations.state)
        except (*READ_ERRORS, TimeoutError):
            if not self._was_ready:
                raise
            return
        if state is SchemaState.BEHIND:
            raise MigrationsBehind
        if state is SchemaState.TOO_NEW:
            raise MigrationsAhead
        self._was_ready = True

    async def database_answers(self) -> bool:
        try:
            await self._database.ping()
        except READ_ERRORS:
            return False
        return True

    @contextmanager
    def draining_on_sigterm(self, seconds: float) -> Iterator[None]:
        """On SIGTERM become unready, and call the server's own handler `seconds` later.

        Enter this from the running event loop, after the server has installed its handler. In the meantime a load
        balancer notices at `/health/ready` and stops sending requests.
        """
        stop = signal.getsignal(signal.SIGTERM)
        loop = asyncio.get_running_loop()

        def drain(number: int, frame: FrameType | None) -> None:
            self._draining = True
            loop.call_soon_threadsafe(stop_later, number, frame)

        def stop_later(number: int, frame: FrameType | None) -> None:
            self._log.info("draining", seconds=seconds)
            if callable(stop):
                loop.call_later(seconds, stop, number, frame)

        signal.signal(signal.SIGTERM, drain)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, stop)


def router(readiness: Readiness) -> Router:
    """The two endpoints that all services share; each service defines `/health` itself."""
    health = Router(tags=["health"])

    @health.get("/health/live", summary="Liveness check", response_description="The process is alive.")
    async def show_liveness() -> Alive:
        """Uses neither the database nor another service."""
        return Alive()

    documented: dict[int | str, dict[str, Any]] = problems.documented(
        Draining, MigrationsBehind, MigrationsAhead, *READ_ERRORS
    )

    @health.get(
        "/health/ready",
        summary="Readiness check",
        response_description="The service is ready.",
        responses=documented,
    )
    async def show_readiness() -> Ready:
        """503 until the database answers and has the schema of this version, or a newer one that supports it, and after
        SIGTERM. `/health` shows later outages.
        """
        await readiness.check()
        return Ready()

    return health
