"""A proxy in front of a PostgreSQL server, which records statements, and can hang or close connections."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, Self

from sqlalchemy import make_url

from chassis.database.url import as_text


class Proxy:
    def __init__(self, url: str) -> None:
        """
        :param url: of the database; `self.url` is the same database through the proxy
        """
        target = make_url(url)
        self._target = (target.host or "127.0.0.1", target.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Unencrypted, so that the proxy can read the messages.
        through = target.set(host="127.0.0.1", port=self._listener.getsockname()[1])
        self.url = as_text(through.update_query_dict({"sslmode": "disable"}))
        self.statements: list[str] = []
        """The statements sent to the server, in order."""
        self.connections = 0
        """The number of connections made through the proxy."""
        self._forwarding = threading.Event()
        self._forwarding.set()
        self._cut_at = ""
        self._carried_out = False
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._forwarding.set()
        # Closing a socket does not wake a thread that waits for it; shutting it down does.
        for each in (self._listener, *self._sockets):
            _shut_down(each)
        for thread in self._threads:
            thread.join(10)
        for each in (self._listener, *self._sockets):
            each.close()

    def hang(self) -> None:
        """Stop forwarding in both directions, and keep all connections open."""
        self._forwarding.clear()

    def resume(self) -> None:
        self._forwarding.set()

    def resume_without_old_connections(self) -> None:
        """Resume as after a network failure: data on the old connections is lost."""
        for each in self._sockets:
            _shut_down(each)
        self._forwarding.set()

    def cut_at_next(self, statement: str, *, carried_out: bool) -> None:
        """Close the connection that next sends this statement.

        :param carried_out: close it after the server has run the statement, instead of before
        """
        self._cut_at, self._carried_out = statement, carried_out

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            self.connections += 1
            discarding = threading.Event()
            self._run(lambda: self._forward_requests(client, server, discarding))  # noqa: B023 - it is called immediately
            self._run(lambda: self._forward_responses(server, client, discarding))  # noqa: B023 - it is called immediately

    def _forward_requests(self, client: socket.socket, server: socket.socket, discarding: threading.Event) -> None:
        with suppress(OSError), client.makefile("rb") as stream:
            length = _read_exactly(stream, 4)
            server.sendall(length + _read_exactly(stream, int.from_bytes(length, "big") - 4))
            for kind, message in _messages(stream):
                statement = message[5:-1].decode() if kind == b"Q" else ""
                if statement:
                    self.statements.append(statement)
                self._forwarding.wait()
                if self._cut_at and statement == self._cut_at:
                    self._cut_at = ""
                    if not self._carried_out:
                        break
                    discarding.set()
                server.sendall(message)
        for each in (client, server):
            if not discarding.is_set():
                _shut_down(each)

    def _forward_responses(self, server: socket.socket, client: socket.socket, discarding: threading.Event) -> None:
        with suppress(OSError), server.makefile("rb") as stream:
            for kind, message in _messages(stream):
                self._forwarding.wait()
                if not discarding.is_set():
                    client.sendall(message)
                elif kind == b"Z":  # ReadyForQuery: the server has run the statement.
                    break
        for each in (client, server):
            _shut_down(each)

    def _run(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()


def _messages(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The messages of PostgreSQL's protocol after the startup message: their type, and all of their bytes."""
    while True:
        head = _read_exactly(stream, 5)
        yield head[:1], head + _read_exactly(stream, int.from_bytes(head[1:], "big") - 4)


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ConnectionResetError
    return data


def _shut_down(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
