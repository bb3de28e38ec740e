"""`chassis.process.protocol` on real sockets: deadlines for clients that do nothing, a limit of connections."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from chassis import logs
from chassis.process import protocol
from chassis.process.protocol import Protocol, within_file_handles
from testkit.library import logged

WITHIN = 30  # seconds to wait for what must happen
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = 20_000_000
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self) -> bytes:
        """The next response, of an application in this module: its body is "ok"."""
        async with asyncio.timeout(WITHIN):
            return await self.reader.readuntil(b"ok\r\n0\r\n\r\n")

    async def rest(self) -> bytes:
        """Everything until the service closes the connection."""
        async with asyncio.timeout(WITHIN):
            return await self.reader.read()

    async def is_closed(self) -> bool:
        """Wait until the service closes the connection."""
        async with asyncio.timeout(WITHIN):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True

    async def drip(self, data: bytes = b"x") -> None:
        """Send this again and again, until the service closes the connection."""
        async with asyncio.timeout(WITHIN):
            try:
                while not self.reader.at_eof():
                    await self.send(data)
                    await asyncio.sleep(0.02)
            except ConnectionError:
                pass


@dataclass
class Server:
    port: int
    state: ServerState
    made: list[Protocol]
    clients: list[Client] = field(default_factory=list)

    async def connect(self, sent: bytes = b"") -> Client:
        """A new client; the service knows its connection."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        await client.send(sent)
        address = client.writer.get_extra_info("sockname")
        await self.wait(lambda: any(each.client == address for each in self.made))
        return client

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN):
            while not condition():  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.005)


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads no body."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    """An application whose response does not fit into the buffers of the operating systems."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]})
    await send({"type": "http.response.body", "body": b"x" * LARGE})


@asynccontextmanager
async def serving(
    application: Callable[[Scope, Receive, Send], Awaitable[None]] = ok,
    *,
    header_timeout: float = WITHIN,
    max_connections: int = 100,
    keep_alive: int = WITHIN,
) -> AsyncIterator[Server]:
    state = ServerState()
    config = Config(
        application, ws="none", log_config=None, timeout_keep_alive=keep_alive, lifespan="off", reset_contextvars=True
    )
    made: list[Protocol] = []

    def make() -> Protocol:
        made.append(Protocol(config, state, {}, header_timeout=header_timeout, max_connections=max_connections))
        return made[-1]

    listener = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    server = Server(listener.sockets[0].getsockname()[1], state, made)
    try:
        yield server
    finally:
        for client in server.clients:
            client.writer.close()
        for connection in list(state.connections):
            connection.transport.abort()
        listener.close()
        for task in list(state.tasks):
            task.cancel()


@pytest.mark.parametrize("sent", [b"", b"G", GET[:-1]])
async def test_a_client_that_stops_before_the_end_of_its_headers_is_disconnected(sent: bytes) -> None:
    async with serving(header_timeout=0.1) as server:
        client = await server.connect(sent)
        assert await client.is_closed()
        await server.wait(lambda: not server.state.connections)


async def test_headers_that_drip_have_the_same_deadline() -> None:
    async with serving(header_timeout=0.3) as server:
        await (await server.connect(GET[:-2] + b"X-Slow: ")).drip()
        # So do those of a later request.
        client = await server.connect(GET)
        await client.response()
        await client.send(GET[:-2] + b"X-Slow: ")
        await client.drip()


async def test_an_idle_connection_stays_open_after_a_request() -> None:
    async with serving(header_timeout=0.1) as server:
        client = await server.connect(GET)
        await client.response()
        for _ in range(2):
            assert await (await server.connect()).is_closed()
        await client.send(GET)
        await client.response()


async def test_a_request_in_progress_has_no_deadline() -> None:
    finish = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await finish.wait()
        await ok(scope, receive, send)

    async with serving(slow, header_timeout=0.1) as server:
        client = await server.connect(GET)
        assert await (await server.connect()).is_closed()
        finish.set()
        await client.response()


async def test_a_body_that_is_not_read_has_a_deadline_and_takes_no_memory() -> None:
    async with serving(keep_alive=1) as server:
        client = await server.connect(POST + b"x" * 60_000)
        await client.response()
        (connection,) = server.state.connections
        assert connection.cycle.body == b""  # type: ignore[union-attr]
        await client.drip()


async def test_a_connection_serves_further_requests_after_a_body_that_is_not_read() -> None:
    async with serving() as server:
        client = await server.connect(POST)
        await client.response()
        await client.send(b"x" * 1_000_000 + GET)
        await client.response()


async def test_a_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MIN_READING_RATE", 100_000_000)

    async with serving(large, keep_alive=1) as server:
        await server.connect(GET)
        await server.wait(lambda: not server.state.connections)


async def test_beyond_the_limit_of_unread_bytes_the_oldest_response_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_UNREAD", 45_000_000)
    monkeypatch.setattr(logs._FLOODS[logs.CONNECTIONS], "_next", 0)

    async with serving(large) as server:
        with logged() as log:
            for position in range(5):
                await server.connect(GET)
                await server.wait(lambda position=position: server.made[position].flow.write_paused)  # type: ignore[misc]
            oldest, newest = server.made[0], server.made[-1]
            assert oldest not in server.state.connections
            assert newest in server.state.connections
        unread = sum(each.transport.get_write_buffer_size() for each in server.made)
        assert unread <= 45_000_000
        client = server.clients[-1]
        async with asyncio.timeout(WITHIN):
            await client.reader.readuntil(b"\r\n\r\n")
            assert len(await client.reader.readexactly(LARGE)) == LARGE
    assert [(line["message"], line["limit"]) for line in log.lines] == [(logs.TOO_MUCH_UNREAD, 45_000_000)]


async def test_a_slow_client_reads_the_whole_response_of_a_connection_that_closes() -> None:
    async with serving(large, keep_alive=1) as server:
        client = await server.connect(GET[:-2] + b"Connection: close\r\n\r\n")
        await server.wait(lambda: server.made[0].flow.write_paused)
        read = 0
        async with asyncio.timeout(WITHIN):
            await client.reader.readuntil(b"\r\n\r\n")
            while chunk := await client.reader.read(LARGE // 100):
                read += len(chunk)
                await asyncio.sleep(0.02)  # In total, longer than the keep-alive timeout.
        assert read == LARGE


@pytest.mark.parametrize("garbage", [b"ZZ\r\nhello\r\n", b"\x00\xff\r\n\r\n"])
async def test_an_invalid_body_after_the_response_closes_the_connection(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as server:
        client = await server.connect(GET.replace(b"GET", b"POST")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n")
        await client.response()
        await client.send(garbage)
        assert await client.is_closed()
    assert [record.getMessage() for record in caplog.records] == ["Invalid HTTP request received."]


async def test_a_request_has_nothing_of_the_context_of_an_earlier_one() -> None:
    caller = ContextVar("caller", default="nobody")
    seen = []

    async def remembering(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(caller.get())
        caller.set("the previous one")
        await ok(scope, receive, send)

    async with serving(remembering) as server:
        client = await server.connect(GET + GET)
        for _ in range(2):
            await client.response()
        await client.send(GET)  # asyncio reads it in the context of the one that resumed reading.
        await client.response()
    assert seen == ["nobody"] * 3


async def test_beyond_the_limit_the_connection_that_waits_longest_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs._FLOODS[logs.CONNECTIONS], "_next", 0)
    async with serving(max_connections=3) as server:
        idle = [await server.connect() for _ in range(3)]
        await idle[0].send(GET)
        await idle[0].response()
        with logged() as log:
            newcomers = [await server.connect(GET) for _ in range(2)]
            for client in newcomers:
                await client.response()
            assert await idle[1].is_closed()
            assert await idle[2].is_closed()
        await idle[0].send(GET)
        await idle[0].response()
        assert len(server.state.connections) == 3
    # Once a second, however many there are.
    assert [(line["message"], line["limit"]) for line in log.lines] == [(logs.TOO_MANY_CONNECTIONS, 3)]


async def test_a_request_in_progress_is_never_closed_for_another() -> None:
    finish = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await finish.wait()
        await ok(scope, receive, send)

    async with serving(slow, max_connections=2) as server:
        clients = [await server.connect(GET) for _ in range(2)]
        await server.wait(lambda: len(server.state.tasks) == 2)
        assert await (await server.connect()).is_closed()
        finish.set()
        for client in clients:
            await client.response()


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        (b"http://shop.example:8080/a%20b?c=d", "/a b", b"c=d", b"shop.example:8080"),
        (b"HTTPS://user@shop.example", "/", b"", b"shop.example"),
        (b"/http://shop.example/", "/http://shop.example/", b"", b"as.sent"),
    ],
)
async def test_the_absolute_form_replaces_path_and_host(target: bytes, path: str, query: bytes, host: bytes) -> None:
    seen: list[Scope] = []

    async def seeing(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await ok(scope, receive, send)

    async with serving(seeing) as server:
        client = await server.connect(b"GET %b HTTP/1.1\r\nHost: as.sent\r\nX: 1\r\n\r\n" % target)
        await client.response()
    (scope,) = seen
    assert (scope["path"], scope["query_string"]) == (path, query)
    assert sorted(scope["headers"]) == [(b"host", host), (b"x", b"1")]


@pytest.mark.parametrize("length", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_an_upgrade_with_a_body_is_an_ordinary_request(*, length: bytes, at_once: bool) -> None:
    bodies = []

    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        bodies.append(body)
        await ok(scope, receive, send)

    head = (
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + length + b"\r\n\r\n"
    )
    body = b"5\r\nhello\r\n0\r\n\r\n" if length.startswith(b"T") else b"hello"
    async with serving(reading) as server:
        client = await server.connect(head + body if at_once else head)
        if not at_once:
            await server.wait(lambda: bool(server.state.tasks))
            await client.send(body)
        await client.response()
        await client.send(GET)
        await client.response()
    assert bodies == [b"hello", b""]


@pytest.mark.parametrize("parts", [1, 10])
async def test_a_head_has_a_maximum_size(parts: int) -> None:
    header = b"X: " + b"x" * protocol.MAX_HEAD + b"\r\n\r\n"
    async with serving() as server:
        client = await server.connect(GET[:-2])
        for part in range(parts):
            await client.send(header[part * len(header) // parts : (part + 1) * len(header) // parts])
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


async def test_an_invalid_request_leaves_the_responses_before_it() -> None:
    async with serving() as server:
        client = await server.connect(GET * 2 + b"GET /\r\n\r\n" + GET)
        assert (await client.rest()).count(b"HTTP/1.1 200 OK") == 2


async def test_beyond_the_limit_of_pipelined_requests_the_connection_is_closed_after_the_responses() -> None:
    async with serving() as server:
        client = await server.connect(GET * 5000)
        assert (await client.rest()).count(b"HTTP/1.1 200 OK") == protocol.MAX_PIPELINED + 1


async def test_an_upgrade_is_an_ordinary_request_without_warnings(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        for name in (b"websocket", b"h2c"):
            upgrade = b"Connection: Upgrade\r\nUpgrade: " + name + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
            client = await server.connect(GET[:-2] + upgrade)
            assert (await client.response()).startswith(b"HTTP/1.1 200 ")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_limit_is_at_most_half_of_the_file_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    for handles, limit in ((256, 128), (1024, 512), (65_536, 1000), (resource.RLIM_INFINITY, 1000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, handles=handles: (handles, handles))
        assert within_file_handles(1000) == limit
