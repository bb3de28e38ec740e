"""No request waits for AnyIO's shared thread pool."""

import asyncio

import httpx
from anyio import to_thread

from chassis.http.routing import Router
from testkit.library import client_of, make_app


async def test_operations_without_query_parameters_need_no_shared_thread() -> None:
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
