"""A proxy in front of a PostgreSQL server, which sees what is asked of it, and can stop forwarding or cut."""

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
        :param url: of the database behind it; `self.url` is the same one through the proxy
        """
        target = make_url(url)
        self._target = (target.host or "127.0.0.1", target.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Unencrypted, so that it can read along.
        through = target.set(host="127.0.0.1", port=self._listener.getsockname()[1])
        self.url = as_text(through.update_query_dict({"sslmode": "disable"}))
        self.statements: list[str] = []
        """What was asked of the server, in order."""
        self.connections = 0
        """How many were made through the proxy."""
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
        # To close a socket does not wake a thread that waits for it; to shut it down does.
        for each in (self._listener, *self._sockets):
            _end(each)
        for thread in self._threads:
            thread.join(10)
        for each in (self._listener, *self._sockets):
            each.close()

    def hang(self) -> None:
        """Forward nothing any more, in neither direction, and keep all connections open."""
        self._forwarding.clear()

    def go_on(self) -> None:
        self._forwarding.set()

    def go_on_without_the_old_connections(self) -> None:
        """Go on, as after a failure of the network: what was said on the old connections never arrives."""
        for each in self._sockets:
            _end(each)
        self._forwarding.set()

    def cut_at_next(self, statement: str, *, carried_out: bool) -> None:
        """Cut the connection that sends this statement next: before it is forwarded, or instead of its answer."""
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
            swallowing = threading.Event()
            self._run(lambda: self._forward_questions(client, server, swallowing))  # noqa: B023 - it is called at once
            self._run(lambda: self._forward_answers(server, client, swallowing))  # noqa: B023 - it is called at once

    def _forward_questions(self, client: socket.socket, server: socket.socket, swallowing: threading.Event) -> None:
        with suppress(OSError), client.makefile("rb") as stream:
            length = _exactly(stream, 4)
            server.sendall(length + _exactly(stream, int.from_bytes(length, "big") - 4))
            for kind, message in _messages(stream):
                statement = message[5:-1].decode() if kind == b"Q" else ""
                if statement:
                    self.statements.append(statement)
                self._forwarding.wait()
                if self._cut_at and statement == self._cut_at:
                    self._cut_at = ""
                    if not self._carried_out:
                        break
                    swallowing.set()
                server.sendall(message)
        for each in (client, server):
            if not swallowing.is_set():
                _end(each)

    def _forward_answers(self, server: socket.socket, client: socket.socket, swallowing: threading.Event) -> None:
        with suppress(OSError), server.makefile("rb") as stream:
            for kind, message in _messages(stream):
                self._forwarding.wait()
                if not swallowing.is_set():
                    client.sendall(message)
                elif kind == b"Z":  # The server is ready for the next one, so this one was carried out.
                    break
        for each in (client, server):
            _end(each)

    def _run(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()


def _messages(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The messages of PostgreSQL's protocol after the first one: their kind, and all of their bytes."""
    while True:
        head = _exactly(stream, 5)
        yield head[:1], head + _exactly(stream, int.from_bytes(head[1:], "big") - 4)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ConnectionResetError
    return data


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
