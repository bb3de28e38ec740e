"""`chassis.http.limits`: the time for a body, and the requests of an operation in progress."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.types import Message, Receive, Scope, Send

from chassis.http import limits
from chassis.http.limits import BodyTimeout
from chassis.http.routing import Router
from testkit import library_api
from testkit.applications import running
from testkit.library import make_app
from testkit.library_api import TOKEN, accept_any_token, problem

JSON = {"Content-Type": "application/json"}
WITHIN = 30  # seconds to wait for what must happen


def make_books(body_timeout: float) -> FastAPI:
    return make_app(library_api.books(), authenticate=accept_any_token, body_timeout=body_timeout)


async def test_a_body_that_stalls_is_a_408() -> None:
    async def stall() -> AsyncIterator[bytes]:
        yield b'{"name"'
        await asyncio.Event().wait()

    async with running(make_books(body_timeout=0.05)) as client:
        answer = await client.post("/books", content=stall(), headers={**TOKEN, **JSON})
    body = problem(answer, 408, "body-timeout")
    assert body["detail"] == (
        "The body did not arrive in time: it paused for 0.05 seconds, or was that far behind 4 KiB per second."
    )
    assert answer.headers["connection"] == "close"


async def test_a_body_that_drips_is_a_408() -> None:
    sent = 0

    async def drip() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'{"name": "'
        while True:
            await asyncio.sleep(0.01)
            sent += 1
            yield b"x"

    async with asyncio.timeout(WITHIN), running(make_books(body_timeout=0.2)) as client:
        problem(await client.post("/books", content=drip(), headers={**TOKEN, **JSON}), 408, "body-timeout")
    assert 1 < sent <= 20


async def test_a_long_body_at_the_minimum_rate_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MIN_BODY_RATE", 100)

    async def steady() -> AsyncIterator[bytes]:
        yield b'{"name": "'
        for _ in range(10):
            await asyncio.sleep(0.05)
            yield b"x" * 100  # a second's worth
        yield b'"}'

    async with running(make_books(body_timeout=0.3)) as client:
        answer = await client.post("/books", content=steady(), headers={**TOKEN, **JSON})
    assert answer.status_code == 201


async def test_only_the_body_has_a_deadline() -> None:
    """A response that takes long waits for the end of the connection all the time."""
    messages: list[Message] = [
        {"type": "http.request", "body": b"x", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        if len(messages) == 1:
            await asyncio.sleep(0.2)
        return messages.pop(0)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert [(await receive())["type"], (await receive())["type"]] == ["http.request", "http.disconnect"]

    async def send(_: Message) -> None: ...

    await BodyTimeout(application, 0.05)({"type": "http"}, receive, send)
    assert messages == []


class Desk:
    """Operations that take as long as the test wants."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.may_leave = asyncio.Event()
        self.router = Router(prefix="/desk")

        @self.router.get("")
        async def wait() -> str:
            return await self._serve()

        @self.router.post("")
        async def wait_with_body(request: Request) -> str:
            await request.body()
            return await self._serve()

        @self.router.get("/other")
        async def other() -> str:
            return "ok"

    async def _serve(self) -> str:
        self.entered.release()
        await self.may_leave.wait()
        return "served"

    async def wait_for(self, number: int) -> None:
        """Wait until so many more requests are in progress."""
        async with asyncio.timeout(WITHIN):
            for _ in range(number):
                await self.entered.acquire()


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
async def client(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    async with running(make_app(desk.router, max_concurrent_requests=2)) as client:
        yield client


async def test_further_requests_to_an_operation_are_a_503_and_others_are_served(
    desk: Desk, client: httpx.AsyncClient
) -> None:
    first = [asyncio.create_task(client.get("/desk")) for _ in range(2)]
    await desk.wait_for(2)
    for _ in range(3):
        answer = await client.get("/desk")
        problem(answer, 503, "overloaded")
        assert answer.headers["retry-after"] == "2"
    assert (await client.get("/desk/other")).status_code == 200
    desk.may_leave.set()
    assert [(await each).status_code for each in first] == [200, 200]
    assert (await client.get("/desk")).status_code == 200


async def test_requests_that_wait_for_their_bodies_keep_nobody_out(desk: Desk, client: httpx.AsyncClient) -> None:
    may_end = asyncio.Event()
    waiting = asyncio.Semaphore(0)

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        waiting.release()
        await may_end.wait()
        yield b"x"

    slow_ones = [asyncio.create_task(client.post("/desk", content=slow())) for _ in range(5)]
    async with asyncio.timeout(WITHIN):
        for _ in slow_ones:
            await waiting.acquire()
    served = asyncio.create_task(client.post("/desk", content=b"x"))
    await desk.wait_for(1)
    # Their bodies arrive: one more gets in.
    may_end.set()
    await desk.wait_for(1)
    desk.may_leave.set()
    assert (await served).status_code == 200
    assert sorted([(await each).status_code for each in slow_ones]) == [200, 503, 503, 503, 503]
