"""Requests that are cancelled before the response: by a stopping server, or by a timeout."""

import asyncio
import logging

import pytest
from starlette.types import Message, Receive, Scope, Send

from chassis.http import problems
from chassis.http.middleware import CatchAll, RequestContext
from testkit.library import logged

SCOPE: Scope = {"type": "http", "method": "GET", "path": "/slow", "headers": []}


class Hanging:
    """An application with a request that never completes, inside the usual middleware."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.sent: list[Message] = []
        self._app = RequestContext(
            CatchAll(self._hang, on_error=problems.internal_error, on_cancel=problems.service_stopping)
        )

    async def request(self) -> None:
        await self._app(dict(SCOPE), self._receive, self._send)

    async def _hang(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        self.started.set()
        await asyncio.Event().wait()

    async def _receive(self) -> Message:
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


async def test_a_cancelled_request_gets_a_503_and_stays_cancelled() -> None:
    app = Hanging()
    request = asyncio.create_task(app.request())
    await app.started.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert app.sent[0]["status"] == 503
    headers = {name.decode(): value.decode() for name, value in app.sent[0]["headers"]}
    assert (headers["retry-after"], headers["content-type"]) == ("2", problems.MEDIA_TYPE)
    assert headers["x-request-id"]


async def test_a_timeout_around_a_request_raises_timeout_error() -> None:
    app = Hanging()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await app.request()
    assert app.sent[0]["status"] == 503


def test_the_server_logs_no_traceback_of_a_cancelled_request() -> None:
    with logged() as log:
        server = logging.getLogger("uvicorn.error")
        server.error("Exception in ASGI application", exc_info=asyncio.CancelledError())
        server.error("Exception in ASGI application", exc_info=ValueError())
    assert [line["message"] for line in log.lines] == ["Exception in ASGI application"]
    assert "ValueError" in log.text
