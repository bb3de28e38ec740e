"""A small thread pool with a queue on the event loop: waiting takes no thread, and has a timeout."""

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from chassis.errors import Unavailable
from chassis.metrics import Counter, Gauge, Histogram

P = ParamSpec("P")
T = TypeVar("T")

THREADS = Gauge("thread_pool_threads", "Threads of a pool. A pool of a database has as many connections.", pool=())
BUSY = Gauge("thread_pool_threads_busy", "Threads of a pool that run a call.", pool=())
WAIT = Histogram(
    "thread_pool_wait_seconds", "How long calls waited that found no free thread; the others are not counted.", pool=()
)
REJECTED = Counter("thread_pool_rejections_total", "Calls that found no free thread before the queue timeout.", pool=())


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
        self._name = name
        self._queue_timeout = queue_timeout
        self._run_timeout = run_timeout
        self._busy = busy
        self._size = threads
        # A call acquires these in this order: its client's, if it has one, the queue's, and a thread's.
        # A client's is there while one of its calls waits or runs.
        self._per_client: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        # As many calls as there are threads leave the queue, and compete with those of the other one for a thread.
        self._queue_head = asyncio.Semaphore(threads)
        self._free_threads: asyncio.Semaphore
        self._threads: ThreadPoolExecutor
        if beside:
            self._free_threads, self._threads = beside._free_threads, beside._threads  # noqa: SLF001 - of the same class
        else:
            self._free_threads = asyncio.Semaphore(threads)
            self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
            THREADS.add(threads, name)
        for metric in (BUSY, WAIT, REJECTED):
            metric.show(name)

    def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Run `work` in a thread. Raises `busy` after the queue timeout, TimeoutError after the run timeout."""
        return self.run_for(None, work, *args, **kwargs)

    async def run_for(self, client: str | None, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `run`, and at most as many calls of a client as there are threads run or are in the queue.

        Its other calls wait outside, up to the same timeout. So a client with many calls keeps out no other client.
        """
        needed: tuple[asyncio.Semaphore, ...] = (self._queue_head, self._free_threads)
        if client is not None:
            needed = (self._per_client.setdefault(client, asyncio.Semaphore(self._size)), *needed)
        if any(each.locked() for each in needed):
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self._queue_timeout):
                    await _acquire(needed)
            except TimeoutError:
                REJECTED.add(1, self._name)
                raise self._busy from None
            finally:
                WAIT.observe(time.perf_counter() - started, self._name)
        else:
            for each in needed:
                await each.acquire()  # None of them waits.
        call = partial(contextvars.copy_context().run, work, *args, **kwargs)
        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        # They are released when the thread has finished, even if the waiting request is cancelled earlier.
        future.add_done_callback(partial(_release, self._name, needed))
        BUSY.add(1, self._name)
        async with asyncio.timeout(self._run_timeout):
            # Leaves the thread alone if this request is cancelled or gives up; its result is dropped then.
            return await asyncio.shield(future)

    def close(self) -> None:
        """Wait for running work to finish."""
        self._threads.shutdown(wait=True)


async def _acquire(semaphores: Sequence[asyncio.Semaphore]) -> None:
    """Acquire all of them, one after the other, or none."""
    with ExitStack() as acquired:
        for each in semaphores:
            await each.acquire()
            acquired.callback(each.release)
        acquired.pop_all()


def _release(name: str, semaphores: Sequence[asyncio.Semaphore], future: asyncio.Future[Any]) -> None:
    BUSY.add(-1, name)
    for each in semaphores:
        each.release()
    if not future.cancelled():
        # A cancelled request never retrieves the exception, and the event loop would log it as lost.
        future.exception()
