"""That both load tests fail when they should, and wait when a limit wants that."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from bench.load.run import K6, LOCUST, PREFIX, CannotStartError, _send, arguments, command, prepare
from testkit.processes import Services, running_services
from tools.environment import install_tools


@pytest.fixture(scope="session")
def programs() -> Path:
    return install_tools("load")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Both services, which let an account write once a second."""
    with running_services(tmp_path_factory.mktemp("services"), RATE_LIMIT_WRITES="1/second") as services:
        yield services


def run(programs: Path, tool: str, users: str, products: str) -> subprocess.CompletedProcess[str]:
    words = [f"--programs={programs}", f"--with={tool}", "--seconds=12", "--users=10"]
    words += [f"--user-service={users}", f"--product-service={products}"]
    command = [sys.executable, "-m", "bench.load.run", *words]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


@pytest.mark.parametrize(("tool", "shown"), [(LOCUST, "(429)"), (K6, "throttled_responses")])
def test_clients_wait_for_a_limit(programs: Path, services: Services, tool: str, shown: str) -> None:
    ended = run(programs, tool, services.users.url, services.products.url)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert shown in ended.stdout + ended.stderr
    assert "All responses were expected." in ended.stdout


Answers = dict[str, tuple[int, object]]
"""A status and a content for each request line; a content that is a string is sent as HTML."""
PRODUCTS: Answers = {"GET /products": (200, [])}
PAGE = "<html>not the service</html>"
TOKENS = {"access_token": "a", "refresh_token": "b", "expires_in": 900}


@contextmanager
def server(answers: Answers) -> Iterator[str]:
    """A server with these answers, and 404 to all other requests. Yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = answers.get(f"{self.command} {self.path.partition('?')[0]}", (404, PAGE))
            is_page = isinstance(content, str)
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if is_page else "application/json")
            self.end_headers()
            self.wfile.write(str(content).encode() if is_page else json.dumps(content).encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({}, "GET .*/products.*: 404, text/html$"),
        ({"GET /products": (200, PAGE)}, "GET .*/products.*: 200, text/html$"),
        ({**PRODUCTS, "POST /login": (200, PAGE)}, "POST .*/login: 200, text/html$"),
        ({**PRODUCTS, "POST /login": (200, {})}, "POST .*/login: 200, application/json$"),
        ({**PRODUCTS, "POST /login": (401, {})}, f"{PREFIX}0 can't be registered: .*/register: 404, text/html$"),
        (
            {**PRODUCTS, "POST /login": (401, {}), "POST /register": (422, {"detail": "too short"})},
            r"422, application/json \(too short\)$",
        ),
        ({**PRODUCTS, "POST /login": (401, {}), "POST /register": (409, {})}, f"{PREFIX}0 can't log in"),
        ({**PRODUCTS, "POST /login": (401, {}), "POST /register": (201, {})}, f"{PREFIX}1 can't log in"),
        ({**PRODUCTS, "POST /login": (429, {})}, "429.*without the seconds to wait in Retry-After$"),
    ],
)
def test_a_service_that_responds_otherwise_is_reported_in_one_line(answers: Answers, message: str) -> None:
    with server(answers) as url, pytest.raises(CannotStartError, match=message) as raised:
        prepare(url, url, 2, "a password for tests")
    assert "<html>" not in str(raised.value)


def test_a_wait_for_a_limit_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter([httpx.Response(429, headers={"Retry-After": "0"}), httpx.Response(201)])
    with httpx.Client(transport=httpx.MockTransport(lambda _: next(answers))) as client:
        assert _send(client, "POST", "http://users/register").status_code == 201
    assert capsys.readouterr().err == "load: POST http://users/register is limited; waiting 0 s\n"


def test_a_login_with_tokens_is_enough() -> None:
    with server({**PRODUCTS, "POST /login": (200, TOKENS)}) as url:
        prepare(url, url, 2, "a password for tests")


@pytest.mark.parametrize("word", ["--seconds=-1", "--seconds=0", "--seconds=inf", "--users=0"])
def test_a_run_without_time_or_users_is_a_usage_error(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["load", "--programs=.", word])
    with pytest.raises(SystemExit) as ended:
        arguments()
    assert ended.value.code == 2


def test_locust_runs_for_a_second_at_least() -> None:
    assert "1s" in command(LOCUST, Path(), 1, 0.4)


def test_a_missing_tool_is_reported_in_one_line(tmp_path: Path) -> None:
    ended = run(tmp_path, K6, "http://127.0.0.1:9", "http://127.0.0.1:9")
    assert ended.returncode == 2
    assert ended.stderr == "load: k6 is not installed (k6 is there for Linux only): use --with locust\n"


@pytest.mark.parametrize("tool", [LOCUST, K6])
def test_an_unexpected_status_fails_the_run(programs: Path, services: Services, tool: str) -> None:
    with server(PRODUCTS) as products:
        ended = run(programs, tool, services.users.url, products)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "404" in ended.stdout + ended.stderr


def test_a_service_that_does_not_respond_is_no_result(programs: Path) -> None:
    ended = run(programs, K6, "http://127.0.0.1:9", "http://127.0.0.1:9")
    assert ended.returncode == 2
    assert ended.stderr.startswith("load: http://127.0.0.1:9/products?limit=1 does not respond: ")
