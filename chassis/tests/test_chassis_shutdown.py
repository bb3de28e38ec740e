"""What a request hears that the service had to leave undone."""

import asyncio

from starlette.types import Message, Receive, Scope, Send

from chassis import problems
from chassis.middleware import CatchAll, RequestContext


async def test_a_request_that_is_cut_off_by_the_stop_is_told_so() -> None:
    started = asyncio.Event()

    async def hang(_scope: Scope, _receive: Receive, _send: Send) -> None:
        started.set()
        await asyncio.Event().wait()

    app = RequestContext(CatchAll(hang, answer=problems.internal_error, cancelled=problems.cut_off))
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope: Scope = {"type": "http", "method": "GET", "path": "/slow", "headers": []}
    request = asyncio.create_task(app(scope, receive, send))
    await started.wait()
    request.cancel()
    await request
    assert sent[0]["status"] == 503
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert (headers["retry-after"], headers["content-type"]) == ("2", problems.MEDIA_TYPE)
    assert headers["x-request-id"]
