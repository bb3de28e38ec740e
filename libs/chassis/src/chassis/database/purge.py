"""Removing what has expired, a batch at a time, so that nobody waits for long."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

from chassis.errors import WRITE_ERRORS

BATCH = 500
"""Rows that are removed in one transaction."""

DeleteBatch = Callable[[int], Awaitable[int]]
"""Removes up to so many rows that have expired, in one transaction; how many there were."""


async def purge(delete_batch: DeleteBatch) -> int:
    """Remove all that has expired; how many rows there were."""
    removed = 0
    while True:
        batch = await delete_batch(BATCH)
        removed += batch
        if batch < BATCH:
            return removed


async def purge_periodically(delete_batch: DeleteBatch, every: float) -> NoReturn:
    """Prune each time so many seconds have passed; while the database is away there is another time."""
    while True:
        await asyncio.sleep(every)
        with suppress(*WRITE_ERRORS):
            await purge(delete_batch)
