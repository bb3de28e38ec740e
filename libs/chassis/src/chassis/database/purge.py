"""Deletes expired rows in batches, so that no other write waits for long."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

from chassis.errors import WRITE_ERRORS

BATCH = 500
"""Rows deleted in one transaction."""

DeleteBatch = Callable[[int], Awaitable[int]]
"""Deletes up to this many expired rows in one transaction, and returns their number."""


async def purge(delete_batch: DeleteBatch) -> int:
    """Delete all expired rows, and return their number."""
    deleted = 0
    while True:
        batch = await delete_batch(BATCH)
        deleted += batch
        if batch < BATCH:
            return deleted


async def purge_periodically(delete_batch: DeleteBatch, every: float) -> NoReturn:
    """Purge at an interval of `every` seconds. If the database is unavailable, wait for the next time."""
    while True:
        await asyncio.sleep(every)
        with suppress(*WRITE_ERRORS):
            await purge(delete_batch)
