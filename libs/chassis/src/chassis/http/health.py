"""Health: `/health/live` says that the process answers, `/health/ready` that it should be given requests."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chassis.database.migrations import Migrations
from chassis.database.transactions import Database
from chassis.errors import READ_ERRORS, Unavailable
from chassis.http import problems
from chassis.http.routing import Router


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    status: Literal["ready"] = "ready"


class Health(BaseModel):
    """The state of a service, for people; a program should ask `/health/ready`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ok", "service": "a-service", "version": "0.1.0", "database": "ok"}]}
    )

    status: Literal["ok", "degraded"] = Field(description="`degraded`: something that it needs does not answer.")
    service: str
    version: str
    database: Literal["ok", "unavailable"]


class NotReady(Unavailable):
    code = "not-ready"
    detail = "The service does not take requests at the moment."


class MigrationsBehind(NotReady):
    code = "migrations-behind"
    detail = "The database has not been migrated to this version of the service."


class Draining(NotReady):
    code = "draining"
    detail = "The service is about to stop."


class Readiness:
    """Whether the service should be given requests: its database answers, is migrated, and no stop was asked for."""

    def __init__(self, database: Database[Any], migrations: Migrations) -> None:
        self._database = database
        self._migrations = migrations
        self._draining = False

    async def check(self) -> None:
        """Return if the service is ready; otherwise raise Draining, MigrationsBehind or a database error."""
        if self._draining:
            raise Draining
        if not await self._database.inspect(self._migrations.is_current):
            raise MigrationsBehind

    async def database_answers(self) -> bool:
        try:
            await self._database.ping()
        except READ_ERRORS:
            return False
        return True

    @contextmanager
    def draining_on_sigterm(self, seconds: float) -> Iterator[None]:
        """From SIGTERM on be unready, and let the server's own handler stop it `seconds` later.

        To be entered from the running event loop, after the server has installed its handler. A load balancer that
        asks `/health/ready` has that long to send its requests elsewhere.
        """
        stop = signal.getsignal(signal.SIGTERM)
        loop = asyncio.get_running_loop()

        def drain(number: int, frame: FrameType | None) -> None:
            self._draining = True
            if callable(stop):
                loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, frame)

        signal.signal(signal.SIGTERM, drain)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, stop)


def router(readiness: Readiness) -> Router:
    """The two calls that are the same in both services; `/health` itself is each service's own."""
    health = Router(tags=["health"])

    @health.get("/health/live", summary="Is the process alive?", response_description="It is.")
    async def show_liveness() -> Alive:
        """Answers without touching anything."""
        return Alive()

    documented: dict[int | str, dict[str, Any]] = problems.documented(Draining, MigrationsBehind, *READ_ERRORS)

    @health.get(
        "/health/ready",
        summary="Should it be given requests?",
        response_description="It should.",
        responses=documented,
    )
    async def show_readiness() -> Ready:
        """503 while the database is away or not migrated, and from the moment the service is told to stop."""
        await readiness.check()
        return Ready()

    return health
