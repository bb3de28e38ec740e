"""An application that relies on the headers of the gateway: it answers with what it gets."""

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self) -> None:
        """The method, path, headers and digest of the request. The path `/answer/429` is a problem of this status."""
        body = self._body()
        status = int(self.path.removeprefix("/answer/")) if self.path.startswith("/answer/") else 200
        content = {
            "status": status,
            "method": self.command,
            "path": self.path,
            "headers": self.headers.items(),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        encoded = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/problem+json" if status >= 400 else "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        if status >= 400:
            self.send_header("Retry-After", "7")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(encoded)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer  # noqa: N815 - their names


@contextmanager
def running_application() -> Iterator[int]:
    """Run it; yields its loopback port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    """Serve until a signal comes, at the port of the option `--port=`."""
    port = int(sys.argv[1].removeprefix("--port="))
    ThreadingHTTPServer(("", port), _Echo).serve_forever()


if __name__ == "__main__":
    main()
