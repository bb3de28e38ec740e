"""Raw HTTP: what no HTTP client would send. The requests are in tests/files/raw_http.toml."""

import http.client
import io
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest

from testkit.processes import Account, Services

CASES: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parents[2] / "files" / "raw_http.toml").read_text(encoding="utf-8")
)["request"]
PROBE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


class _Reader(io.BufferedReader):
    """The stream of a connection, which outlives each of its responses."""

    def close(self) -> None:
        pass


class _Connection:
    """The part of a socket that `http.client` needs to read a response."""

    def __init__(self, connection: socket.socket) -> None:
        self._reader = _Reader(socket.SocketIO(connection, "r"))

    def makefile(self, _: str) -> io.BufferedReader:
        return self._reader

    def response(self, method: str) -> http.client.HTTPResponse | None:
        """The next response; None if the service has closed the connection."""
        if not self._reader.peek(1):
            return None
        response = http.client.HTTPResponse(self, method=method)  # type: ignore[arg-type]
        response.begin()
        response.read()
        return response


@pytest.mark.parametrize(
    ("service", "case"),
    [
        pytest.param(service, case, id=f"{case['name']}, {service}")
        for case in CASES
        for service in ("users", "products")
        if case.get("service", service) == service
    ],
)
def test_raw_request(services: Services, owner: Account, service: str, case: dict[str, Any]) -> None:
    sent = case["sent"].replace("TOKEN", owner.token).encode("latin-1")
    method = "HEAD" if sent.startswith(b"HEAD") else "GET"
    with socket.create_connection(("127.0.0.1", getattr(services, service).port), timeout=30) as connection:
        connection.sendall(sent)
        reader = _Connection(connection)
        responses = [reader.response(method) for _ in case["statuses"]]
        assert [each and each.status for each in responses] == case["statuses"]
        assert {each.getheader("X-Content-Type-Options") for each in responses if each} <= {"nosniff"}
        if case.get("closed") is False:
            connection.sendall(PROBE)
            probe = reader.response("GET")
            assert probe is not None
            assert probe.status == 200
        elif "closed" in case:
            assert reader.response("GET") is None
    assert "pgrade" not in getattr(services, service).log
