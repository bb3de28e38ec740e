"""A single client that holds many connections does not take a service away from others."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from testkit.few_file_handles import FILE_HANDLES, FewFileHandles
from testkit.processes import Service, eventually
from testkit.usage import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and limits file handles")

CREDENTIALS = {"username": "ada", "password": "correct horse battery staple"}
MIB = 1024 * 1024


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    kind: type[Service] = getattr(request, "param", Service)
    service = kind("user-service", tmp_path)
    try:
        yield service.start().wait_ready()
    finally:
        service.close()


@pytest.fixture
def connections() -> Iterator[ExitStack]:
    """Closes connections after the test."""
    with ExitStack() as stack:
        yield stack


def connect(service: Service, connections: ExitStack, sent: bytes = b"") -> socket.socket:
    connection = connections.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=60))
    with suppress(ConnectionError):  # The service may have closed it already.
        connection.sendall(sent)
    return connection


def log_in(client: httpx.Client) -> int:
    return client.post("/login", json=CREDENTIALS).status_code


@pytest.mark.parametrize("service", [FewFileHandles], indirect=True)
def test_more_idle_connections_than_file_handles_leave_the_service_available(
    service: Service, connections: ExitStack
) -> None:
    with service.client(timeout=60) as client:
        assert client.post("/register", json=CREDENTIALS).status_code == 201
    lines = len(service.log_lines)
    idle = [connect(service, connections) for _ in range(FILE_HANDLES + 50)]
    for _ in range(3):
        with service.client(timeout=60) as client:
            assert client.get("/health/live").status_code == 200
            assert log_in(client) == 200
    assert service.is_running
    # At most two kinds of lines, once a second each, and those of the requests.
    assert len(service.log_lines) - lines < 200
    closed = 0
    for connection in idle:
        connection.settimeout(0)
        with suppress(BlockingIOError):
            closed += connection.recv(1) == b""
    assert closed >= len(idle) - FILE_HANDLES // 2


@pytest.mark.parametrize("length", [16 * 1024, MIB])
def test_bodies_that_wait_for_their_last_byte_take_little_memory_and_keep_nobody_out(
    service: Service, connections: ExitStack, length: int
) -> None:
    with service.client(timeout=60) as client:
        assert client.post("/register", json=CREDENTIALS).status_code == 201
        assert log_in(client) == 200
        before = memory(service.pid)
        head = f"POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        sent = head.encode() + b'"' + b"x" * (length - 2)
        waiting = [connect(service, connections, sent) for _ in range(450)]
        assert log_in(client) == 200
        assert client.get("/health/live").status_code == 200
        if length == MIB:
            for connection in waiting:
                assert connection.recv(12) == b"HTTP/1.1 413"
        assert memory(service.pid) - before < 96 * MIB
        for connection in waiting:
            with suppress(ConnectionError):
                connection.sendall(b'"')
        if length < MIB:
            statuses = {connection.recv(12) for connection in waiting}
            assert statuses <= {b"HTTP/1.1 422", b"HTTP/1.1 503"}
        eventually(lambda: log_in(client) == 200, 60, "logins work afterwards")
