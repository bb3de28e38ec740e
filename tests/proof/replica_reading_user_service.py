"""The user service with token validations that read a replica, which `prove --break replica-read` has to detect."""

import asyncio
import os
import runpy
from datetime import datetime
from functools import cache
from typing import cast

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from chassis.database.engines import Timeouts, postgresql_engine
from chassis.database.transactions import Reader
from chassis.database.url import normalise
from user_service.models import User
from user_service.repositories import Repositories
from user_service.services.sessions import Sessions

REPLICA_URL = "REPLICA_URL"
"""The environment variable with the address of the replica."""


@cache
def replica() -> Engine:
    # Not a Database, which refuses a replica.
    return postgresql_engine(normalise(os.environ[REPLICA_URL]), 32, Timeouts(15, 10), writes=False)


async def find_user_in_replica(self: Sessions, session_id: int, user_id: int, now: datetime) -> User | None:
    def find() -> User | None:
        with replica().connect() as connection:
            return Repositories(cast("Session", Reader(connection))).sessions.find_user(session_id, user_id, now)

    return await asyncio.to_thread(find)


if __name__ == "__main__":
    Sessions._find_user = find_user_in_replica  # type: ignore[method-assign]
    runpy.run_module("user_service", run_name="__main__")
