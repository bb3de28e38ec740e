"""Work for a few threads, with the queue for it on the event loop: what waits takes no thread, and not for ever."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from chassis.errors import Unavailable

T = TypeVar("T")


class Lane:
    """As many threads as may work at once, and a queue on the event loop in front of them."""

    def __init__(self, name: str, threads: int, patience: float, busy: type[Unavailable]) -> None:
        """
        :param patience: seconds to wait for a turn
        :param busy: what is raised where it does not come in time
        """
        self._patience = patience
        self._busy = busy
        self._turns = asyncio.Semaphore(threads)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[[], T], within: float | None = None) -> T:
        """Run `work` in a thread. Raises what `busy` is if its turn does not come, TimeoutError if it does not end.

        :param within: seconds that it is waited for, once it has its turn; None is for as long as it takes
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError:
            raise self._busy from None
        context = contextvars.copy_context()
        future = asyncio.get_running_loop().run_in_executor(self._threads, context.run, work)
        # The turn ends with the thread's work, also when the request that waits for it is cancelled before.
        future.add_done_callback(self._end_turn)
        async with asyncio.timeout(within):
            return await asyncio.shield(future)

    def _end_turn(self, future: asyncio.Future[Any]) -> None:
        self._turns.release()
        if not future.cancelled():
            # Looked at here, because a request that does not wait any more will not, and the event loop would complain.
            future.exception()

    def close(self) -> None:
        """Wait for what is running."""
        self._threads.shutdown(wait=True)
