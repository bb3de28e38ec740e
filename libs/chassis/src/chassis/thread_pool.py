"""A small thread pool with a queue on the event loop: waiting takes no thread, and has a timeout."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from chassis.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")


class BoundedThreadPool:
    """A fixed number of threads. A call waits for a free one, up to a timeout."""

    def __init__(
        self,
        name: str,
        threads: int,
        queue_timeout: float,
        busy: type[Unavailable],
        run_timeout: float | None = None,
        *,
        beside: "BoundedThreadPool | None" = None,
    ) -> None:
        """
        :param queue_timeout: seconds to wait for a free thread
        :param busy: raised when the queue timeout expires
        :param run_timeout: seconds to wait for the result once a thread is free; None for no limit
        :param beside: another pool of this size, whose threads this one uses. Each has a queue of its own, and while
            calls wait in both, they alternate.
        """
        self._queue_timeout = queue_timeout
        self._run_timeout = run_timeout
        self._busy = busy
        # As many calls as there are threads leave the queue, and compete with those of the other one for a slot.
        self._places = asyncio.Semaphore(threads)
        self._slots: asyncio.Semaphore
        self._threads: ThreadPoolExecutor
        if beside:
            self._slots, self._threads = beside._slots, beside._threads  # noqa: SLF001 - of the same class
        else:
            self._slots = asyncio.Semaphore(threads)
            self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a thread. Raises `busy` after the queue timeout, TimeoutError after the run timeout."""
        try:
            async with asyncio.timeout(self._queue_timeout):
                await self._acquire_slot()
        except TimeoutError:
            raise self._busy from None
        call = partial(contextvars.copy_context().run, work, *args, **kwargs)
        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        # The slot is released when the thread has finished, even if the waiting request is cancelled earlier.
        future.add_done_callback(self._release_slot)
        async with asyncio.timeout(self._run_timeout):
            # Leaves the thread alone if this request is cancelled or gives up; nobody reads its result then.
            await asyncio.wait({future})
        return future.result()

    async def _acquire_slot(self) -> None:
        await self._places.acquire()
        try:
            await self._slots.acquire()
        except BaseException:
            self._places.release()
            raise

    def _release_slot(self, future: asyncio.Future[Any]) -> None:
        self._slots.release()
        self._places.release()
        if not future.cancelled():
            # A cancelled request never retrieves the exception, and the event loop would log it as lost.
            future.exception()

    def close(self) -> None:
        """Wait for running work to finish."""
        self._threads.shutdown(wait=True)
