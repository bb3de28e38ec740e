"""Ends a process whose event loop stands still, so that another one is started in its place.

Nothing else would end it: Docker restarts no container that is merely unhealthy, and uvicorn's parent process asks a
thread of the worker, which answers although the event loop hangs.
"""

import asyncio
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from chassis import logs

EXIT_STATUS = 1

_STEPS = 30
_LOG_WITHIN = 5  # seconds


@contextmanager
def watched_loop(seconds: float) -> Iterator[None]:
    """Watch the running event loop from a thread, until the context ends.

    :param seconds: how long the loop may stand still before the process ends; 0 for any time
    """
    if not seconds:
        yield
        return
    ended = threading.Event()
    arguments = (asyncio.get_running_loop(), threading.get_ident(), seconds, ended)
    threading.Thread(target=_watch, args=arguments, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _watch(loop: asyncio.AbstractEventLoop, loop_thread: int, seconds: float, ended: threading.Event) -> None:
    alive = threading.Event()
    # In steps of its own, not by a clock: while the process or the machine is suspended, only one of them passes.
    step = seconds / _STEPS
    while not ended.wait(step):
        alive.clear()
        try:
            loop.call_soon_threadsafe(alive.set)
        except RuntimeError:
            return  # The loop was closed a moment ago.
        if not any(alive.wait(step) for _ in range(_STEPS)) and not ended.is_set():
            _end(loop_thread, seconds)


def _end(loop_thread: int, seconds: float) -> None:
    # The loop may hang in the log, and hold its lock.
    timer = threading.Timer(_LOG_WITHIN, os._exit, (EXIT_STATUS,))
    timer.daemon = True
    timer.start()
    # The lines of the code, without values.
    stack = "".join(traceback.format_stack(sys._current_frames().get(loop_thread)))  # noqa: SLF001
    logs.get("chassis.watchdog").critical("the event loop stands still; the process ends", seconds=seconds, stack=stack)
    os._exit(EXIT_STATUS)
