"""A stub of the user service, on a real socket: answers `POST /validate-token` as defined in `contracts/`."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CONTRACT: dict[str, Any] = json.loads(
    (Path(__file__).parents[4] / "contracts" / "validate-token.json").read_text(encoding="utf-8")
)
VALID, *REFUSED = (interaction["body"] for interaction in CONTRACT["interactions"])

ADA, BOB, ROOT = "token-of-ada", "token-of-bob", "token-of-root"
"""The valid tokens of the stub; it reports every other one as invalid."""

_ACCOUNTS = {
    ADA: {"user_id": 1, "username": "ada"},
    BOB: {"user_id": 2, "username": "bob"},
    ROOT: {"user_id": 9, "username": "root", "roles": ["user", "admin"]},
}


def answer_as_the_contract_says(token: str) -> tuple[int, bytes]:
    account = _ACCOUNTS.get(token)
    return 200, json.dumps({**VALID, **account} if account else REFUSED[-1]).encode()


class UserServiceStub:
    """Answers `POST /validate-token` on a real socket: as in the contract, until `answer` is replaced."""

    def __init__(self) -> None:
        self.answer: Callable[[str], tuple[int, bytes]] = answer_as_the_contract_says
        self.requests: list[tuple[str, dict[str, str]]] = []
        """The token and the headers of each validation request."""
        self.answer_headers: dict[str, str] = {}
        self._connections: list[socket.socket] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body of a response are sent separately; with Nagle's algorithm the body waits 40 ms.
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                stub._connections.append(self.connection)

            def do_POST(self) -> None:
                token = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["token"]
                headers = {name.lower(): value for name, value in self.headers.items()}
                stub.requests.append((token, {**headers, "x-test-client-port": str(self.client_address[1])}))
                self._send(*stub.answer(token))

            def do_GET(self) -> None:
                self._send(200, b'{"status":"alive"}')

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **stub.answer_headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Don't log."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Ignore clients that disconnect; some tests do that on purpose."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close all connections, and refuse new ones."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
