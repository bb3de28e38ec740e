"""No request waits for the pool of threads that plain functions share."""

import asyncio
import threading

import httpx
from anyio import to_thread
from chassis_support import client_of, make_app

from chassis.routing import Router


async def test_an_operation_without_query_parameters_is_answered_while_all_shared_threads_are_busy() -> None:
    router = Router()

    @router.get("/live")
    async def live() -> str:
        return "alive"

    threads = int(to_thread.current_default_thread_limiter().total_tokens)
    release = threading.Event()
    async with asyncio.TaskGroup() as busy, client_of(make_app(router)) as client:
        try:
            for _ in range(threads):
                busy.create_task(to_thread.run_sync(release.wait))
            while to_thread.current_default_thread_limiter().available_tokens:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(10):
                answer = await client.get("/live")
        finally:
            release.set()
    assert answer.status_code == httpx.codes.OK
