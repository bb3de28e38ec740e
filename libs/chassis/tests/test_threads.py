"""No request waits for the pool of threads that plain functions share."""

import asyncio

import httpx
from anyio import to_thread

from chassis.http.routing import Router
from testkit.library import client_of, make_app


async def test_an_operation_without_query_parameters_is_answered_while_all_shared_threads_are_busy() -> None:
    router = Router()

    @router.get("/live")
    async def live() -> str:
        return "alive"

    limiter = to_thread.current_default_thread_limiter()
    borrowers = [object() for _ in range(int(limiter.total_tokens))]
    for borrower in borrowers:
        limiter.acquire_on_behalf_of_nowait(borrower)
    try:
        async with asyncio.timeout(10), client_of(make_app(router)) as client:
            answer = await client.get("/live")
    finally:
        for borrower in borrowers:
            limiter.release_on_behalf_of(borrower)
    assert answer.status_code == httpx.codes.OK
