"""Requests as bytes on sockets of their own, because an attacker keeps to no protocol.

Each request has a new connection, so that a service that accepts none is noticed.
"""

import json
import re
import socket
from collections.abc import Mapping
from contextlib import closing

JSON = "application/json"
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_MAX_RESPONSE = 1 << 20  # bytes


def request(
    method: str, path: str, body: bytes = b"", media_type: str = JSON, headers: Mapping[str, str] | None = None
) -> bytes:
    """A request after which the service closes the connection."""
    fields = {
        "Host": "localhost",
        "Connection": "close",
        **({"Content-Type": media_type, "Content-Length": str(len(body))} if method != "GET" else {}),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def post(path: str, content: object, headers: Mapping[str, str] | None = None) -> bytes:
    """A POST request with JSON."""
    return request("POST", path, json.dumps(content).encode(), headers=headers)


def connect(port: int, within: float) -> socket.socket:
    """A new connection; all of its operations time out after `within` seconds."""
    return socket.create_connection(("127.0.0.1", port), within)


def status_of(port: int, message: bytes, within: float) -> int | None:
    """Send a request, and return the status of its response; None if there is none in time."""
    try:
        with closing(connect(port, within)) as connection:
            _send(connection, message)
            return _read_status(connection)
    except OSError:
        return None


def hang_up_after(port: int, message: bytes, within: float) -> None:
    """Send as much of a request as the service takes in this time, and close the connection without reading."""
    try:
        with closing(connect(port, within)) as connection:
            connection.sendall(message)
    except OSError:
        return


def send_part(port: int, message: bytes, within: float) -> socket.socket | None:
    """Send an incomplete request; the connection, or None if the service refused to take that much."""
    connection = None
    try:
        connection = connect(port, within)
        connection.sendall(message)
    except OSError:
        if connection is not None:
            connection.close()
        return None
    return connection


def status_so_far(connection: socket.socket) -> int | None:
    """The status of the response that has arrived, or None."""
    connection.settimeout(0)
    return _read_status(connection)


def _send(connection: socket.socket, message: bytes) -> None:
    try:
        connection.sendall(message)
    except (BrokenPipeError, ConnectionResetError):
        return  # The service may respond before it has read everything, and close.


def _read_status(connection: socket.socket) -> int | None:
    received = b""
    try:
        while len(received) < _MAX_RESPONSE and (more := connection.recv(1 << 16)):
            received += more
    except OSError:
        pass  # The response may have come before the error.
    found = _STATUS.match(received)
    return int(found[1]) if found else None
