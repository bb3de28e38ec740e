"""uvicorn's HTTP/1.1 protocol, with deadlines for clients that do nothing and a limit of connections.

uvicorn alone closes a connection only some time after a response, and accepts connections until the process has no file
handle left. Its response to what is no HTTP gets the headers of all other responses.
"""

import asyncio
import contextvars
import sys
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from chassis import logs

if sys.platform != "win32":
    import resource

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


class Protocol(H11Protocol):
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
        super().data_received(data)  # Stops the timer.
        if self._is_between_requests and not self.transport.is_closing():
            if self._deadline is None:
                is_unread_body = self.conn.their_state is h11.SEND_BODY
                seconds = self.timeout_keep_alive if is_unread_body else self._header_timeout
                self._deadline = self.last_active + seconds
            self._close_at(self._deadline)

    def handle_events(self) -> None:
        # asyncio may call this in the context of an earlier request of this connection. Its ids must not be in the log
        # lines of the next one.
        contextvars.Context().run(super().handle_events)

    def on_response_complete(self) -> None:
        self._deadline = None
        self.cycle.body.clear()  # It would stay in memory until the next request.
        super().on_response_complete()
        if self.transport.is_closing() and self._reading_check is None:
            # The transport waits until the client has read the response.
            self._check_reading_later()

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

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # The response came before the end of the request, which is invalid.
            return
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ]
        start = h11.Response(status_code=400, reason=b"Bad Request", headers=headers)
        for event in (start, h11.Data(data=msg.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _should_upgrade(self) -> bool:
        """Ignore every upgrade, as RFC 9110, section 7.8, permits. uvicorn alone would log two warnings for each."""
        return False

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
