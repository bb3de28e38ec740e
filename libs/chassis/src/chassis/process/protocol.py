"""uvicorn's HTTP/1.1 protocol, with deadlines for clients that do nothing and limits of what they may hold.

uvicorn alone closes a connection only some time after a response, and accepts connections until the process has no file
handle left. It leaves rules of HTTP to the application, and loses the body of a request that offers an upgrade.
"""

import asyncio
import sys
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from chassis import logs

if sys.platform != "win32":
    import resource

INVALID = "Invalid HTTP request received."
"""The text of the response to input that is not HTTP, without the headers of all other responses."""

_BAD_REQUEST = "\r\n".join(
    [
        "HTTP/1.1 400 Bad Request",
        "content-type: text/plain; charset=utf-8",
        f"content-length: {len(INVALID)}",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "connection: close",
        "",
        INVALID,
    ]
).encode()

MAX_HEAD = 65_536
"""Bytes of a request before its body."""

MAX_PIPELINED = 32
"""Requests of a connection that wait for the response to an earlier one. After these responses it is closed."""

FIRST_REQUEST_WITHIN = 1.0
"""Seconds that a connection keeps for its first request when the service stops."""

MIN_READING_RATE = 1024
"""Bytes per second that a client must read of a response that does not fit into the buffers."""

MAX_UNREAD = 67_108_864
"""Bytes that a process keeps of all responses that their clients have not read."""


def within_file_handles(limit: int) -> int:
    """The limit, or half of the file handles that the process may have open, if that is less.

    The other half is for the database, for calls to other services, and for connections that are accepted before one is
    closed for them.
    """
    if sys.platform == "win32":
        return limit
    handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit if handles == resource.RLIM_INFINITY else min(limit, handles // 2)


class Protocol(HttpToolsProtocol):
    """A connection that is closed if its client keeps the service waiting.

    Between two requests it may be idle for uvicorn's keep-alive timeout, as before. The client gets the same time for
    the rest of a body that the service does not read, because it has already sent an error.

    Beyond the limit, the service closes the connection that has waited longest for its client. A client with a request
    therefore finds a place, however many connections others hold. Likewise, beyond MAX_UNREAD, it closes the connection
    that has kept the most bytes for the longest time.
    """

    def __init__(self, *args: Any, header_timeout: float, max_connections: int, **kwargs: Any) -> None:
        """
        :param header_timeout: seconds for the headers of a request, from the connection or from their first byte
        :param max_connections: of the whole process
        """
        super().__init__(*args, **kwargs)
        self._header_timeout = header_timeout
        self._max_connections = max_connections
        self._deadline: float | None = None
        self._head_size = 0
        self._in_body = False
        self._reading_check: asyncio.TimerHandle | None = None
        self.last_active = 0.0
        self.write_paused_at = 0.0
        self._log = logs.get(logs.CONNECTIONS)

    @property
    def _is_between_requests(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    @property
    def waits_for_client(self) -> bool:
        """Whether the client has to act next: to send a request or the rest of one, or to read a response."""
        return self._is_between_requests or self.cycle.more_body or self.flow.write_paused

    def drop(self) -> None:
        """Close the connection at once."""
        # It is lost a moment later. Until then, the next client must not count it.
        self.connections.discard(self)
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.last_active = self.loop.time()
        self._close_at(self.last_active + self._header_timeout)
        if len(self.connections) > self._max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_keepalive_if_required()
        self._stop_reading_check()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.last_active = self.loop.time()
        self._unset_keepalive_if_required()
        if not self._in_body:
            self._head_size += len(data)
        self._feed(data)
        if self._head_size > MAX_HEAD and not self.transport.is_closing():
            self._reject()
        if self._is_between_requests and not self.transport.is_closing():
            if self._deadline is None:
                self._deadline = self.last_active + (self.timeout_keep_alive if self._in_body else self._header_timeout)
            self._close_at(self._deadline)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._reject()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the request again without its Upgrade header, as RFC 9110, section 7.8, permits.

        httptools takes everything after the headers for the data of the other protocol.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"\r\n".join([*lines, b"", rest]))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # What follows the last chunk is no header: the application may have read some already.
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Any exception makes the request invalid."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # It comes again.
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD:
            raise ValueError
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and not hosts):
            raise ValueError  # RFC 9112, section 3.2
        if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self.headers):
            raise ValueError  # httptools would not decode the other encodings.
        if not self.url.startswith(b"/"):
            self._use_absolute_form()
        self._head_size = 0
        self._in_body = True
        super().on_headers_complete()

    def _use_absolute_form(self) -> None:
        """The host of an absolute URL replaces the Host header (RFC 9112, section 3.2.2)."""
        url = httptools.parse_url(self.url)
        if url.schema is None:
            return
        if url.schema.lower() not in (b"http", b"https"):
            raise ValueError
        host = url.host + (b":%d" % url.port if url.port else b"")
        self.headers[:] = [(b"host", host), *(each for each in self.headers if each[0] != b"host")]
        self.url = (url.path or b"/") + (b"?" + url.query if url.query else b"")

    def on_message_complete(self) -> None:
        if self._in_body:
            self._in_body = False
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._deadline = None
        if not self.pipeline:
            self.cycle.body.clear()  # It would stay in memory until the next request.
        super().on_response_complete()
        if self.transport.is_closing() and self._reading_check is None:
            # The transport waits until the client has read the response.
            self._check_reading_later()

    def shutdown(self) -> None:
        """Close the connection as soon as it has no request.

        On a new one, the first request may be on its way. A gateway can't tell whether a lost request was carried out,
        so nginx answers 502 to a POST.
        """
        rest = self.last_active + FIRST_REQUEST_WITHIN - self.loop.time()
        if self.cycle is None and rest > 0:
            self.loop.call_later(rest, super().shutdown)
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.write_paused_at = self.loop.time()
        self._check_reading_later()
        self._limit_unread()

    def resume_writing(self) -> None:
        self.last_active = self.loop.time()
        if not self.transport.is_closing():
            self._stop_reading_check()
        super().resume_writing()

    def _reject(self) -> None:
        """Refuse what the client has sent last, and everything after it."""
        self.logger.warning(INVALID)
        if self._in_body:
            if self.cycle.response_started or self.pipeline:
                self.transport.close()
                return
        elif not self._is_between_requests:
            # It is the next request that is invalid: close after the response to this one.
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        self.transport.write(_BAD_REQUEST)
        self.transport.close()

    def _close_at(self, time: float) -> None:
        self._deadline = time
        self.timeout_keep_alive_task = self.loop.call_at(time, self.timeout_keep_alive_handler)

    def _check_reading_later(self) -> None:
        seconds = self.timeout_keep_alive
        self._reading_check = self.loop.call_later(
            seconds, self._check_reading, self.transport.get_write_buffer_size() - MIN_READING_RATE * seconds
        )

    def _check_reading(self, required: int) -> None:
        if self.transport.get_write_buffer_size() > required:
            self.transport.abort()
        else:
            self._check_reading_later()

    def _stop_reading_check(self) -> None:
        if self._reading_check is not None:
            self._reading_check.cancel()
            self._reading_check = None

    def _make_room(self) -> None:
        connections = cast("set[Protocol]", self.connections)
        waiting = (each for each in connections if each is not self and each.waits_for_client)
        victim = min(waiting, key=lambda each: each.last_active, default=self)
        victim.drop()
        self._log.warning(logs.TOO_MANY_CONNECTIONS, limit=self._max_connections)

    def _limit_unread(self) -> None:
        connections = cast("set[Protocol]", self.connections)
        unread = {each: each.transport.get_write_buffer_size() for each in connections if each.flow.write_paused}
        now = self.loop.time()
        while sum(unread.values()) > MAX_UNREAD and len(unread) > 1:
            victim = max(unread, key=lambda each: unread[each] * (now - each.write_paused_at))
            del unread[victim]
            victim.drop()
            self._log.warning(logs.TOO_MUCH_UNREAD, limit=MAX_UNREAD)
