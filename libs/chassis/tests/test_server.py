"""Documentation pages and the command line; in a real process where that matters."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from testkit import library_api, preloaded
from testkit.library import client_of, make_app, rows
from testkit.library_migrations import FIRST, SECOND, write_migrations
from testkit.processes import eventually

TIMEOUT = 300  # seconds to wait for a process


@pytest.fixture
def pages() -> FastAPI:
    return make_app(login_origin=None)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_pages_use_only_local_assets_and_no_inline_scripts(pages: FastAPI, path: str) -> None:
    async with client_of(pages) as client:
        page = await client.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert "The &lt;library&gt;" in page.text
        assert "//" not in page.text
        assert all(not inside for inside in re.findall(r"<script[^>]*>(.*?)</script>", page.text, re.DOTALL))
        assert not re.search(r"<style|\son\w+=|javascript:", page.text)
        references = re.findall(r'(?:src|href|spec-url)="([^"]+)"', page.text)
        assert len(references) >= 3
        for reference in references:
            # Relative URLs work behind any proxy prefix.
            assert not reference.startswith("/")
            asset = await client.get(f"/{reference}")
            assert asset.status_code == 200, reference
            assert asset.content


async def test_the_documentation_can_be_closed() -> None:
    app = make_app(library_api.books(), documentation="off", login_origin="http://users.test:8001")
    async with client_of(app) as client:
        for path in ("/docs", "/redoc", "/openapi.json", "/docs/assets/start.js", "/docs/assets/redoc.standalone.js"):
            assert (await client.get(path)).status_code == 404, path
        assert (await client.get("/")).json()["links"] == {"health": "health"}
        page = await client.get("/", headers={"Accept": "text/html"})
        references = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert set(references) == {"favicon.ico", "docs/assets/pages.css", "docs/assets/home.js", "health"}
        assert "{" not in page.text
        for reference in references[:-1]:
            assert (await client.get(f"/{reference}")).status_code == 200, reference
        assert "users.test" not in page.text + page.headers["content-security-policy"]
        assert (await client.get("/books")).status_code == 200


async def test_pages_allow_only_scripts_of_their_origin(pages: FastAPI) -> None:
    async with client_of(pages) as client:
        for path in ("/docs", "/redoc", "/docs/assets/start.js"):
            answer = await client.get(path)
            policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == "'self'"
            assert policy["connect-src"].strip() == "'self'"
            assert policy["frame-ancestors"] == "'none'"
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_pages_may_call_the_login_origin() -> None:
    async with client_of(make_app(login_origin="http://users.test:8001")) as client:
        policy = (await client.get("/docs")).headers["content-security-policy"]
    assert "connect-src 'self' http://users.test:8001;" in policy


async def test_no_other_files_are_served_as_assets(pages: FastAPI) -> None:
    async with client_of(pages) as client:
        for name in ("..%2f__init__.py", "%2e%2e/__init__.py", "index.html", "start.js.map", "."):
            assert (await client.get(f"/docs/assets/{name}")).status_code == 404


async def test_pages_work_behind_a_proxy_prefix(pages: FastAPI) -> None:
    transport = httpx.ASGITransport(pages, root_path="/library")
    async with httpx.AsyncClient(transport=transport, base_url="http://library.test") as client:
        for path in ("/docs", "/redoc", "/docs/assets/swagger-ui.css"):
            assert (await client.get(f"/library{path}")).status_code == 200
        (server,) = (await client.get("/library/openapi.json")).json()["servers"]
        assert server["url"] == "."  # Relative to the document, so the prefix is in it.


# A service in one file, which runs like the real ones.
TINY = """
import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from fastapi import Response
from sqlalchemy import MetaData
from starlette.responses import StreamingResponse

from chassis import logs
from chassis.http import application, health
from chassis.database.transactions import Database
from chassis.database.migrations import Migrations
from chassis.http.routing import Router
from chassis.process.server import run_command
from chassis.process.watchdog import watched_loop
from chassis.process.configuration import load
from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    service: ClassVar[str] = "tiny-service"
    port: int = 8097


def migrations(settings):
    return Migrations(Path(__file__).parent / "library" / "migrations", MetaData(), settings.database_url)


def create_app(settings):
    database = Database(settings.database_url, lambda session: session, pool_size=2, pool_timeout=5)
    readiness = health.Readiness(database, migrations(settings))

    @asynccontextmanager
    async def lifespan(_):
        with readiness.draining_on_sigterm(settings.drain_seconds), watched_loop(settings.watchdog_seconds):
            yield
        database.close()

    router = Router()

    @router.get("/truncated")
    async def truncated() -> Response:
        async def half():
            yield b"half"
            raise LookupError

        return StreamingResponse(half())

    @router.get("/blocked")
    async def block_the_loop() -> None:
        time.sleep(300)

    @router.get("/unexpected")
    async def unexpected() -> None:
        raise LookupError

    return application.build(
        settings, title="Tiny", version="1", description="Tiny.", lifespan=lifespan,
        routers=[router, health.router(readiness)],
    )


def create_worker_app():
    settings = load(Settings)
    logs.configure(settings.service, settings.log_level, settings.log_format)
    return create_app(settings)


def documented_app():
    return create_app(Settings.model_construct(database_url="sqlite:///unused.db"))


if __name__ == "__main__":
    run_command(Settings, migrations, "tiny_service:create_worker_app", "tiny_service:documented_app")
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The folder of a service, with a space in its name."""
    folder = tmp_path / "tiny service"
    write_migrations(folder, FIRST, SECOND)
    (folder / "tiny_service.py").write_text(TINY, encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run("tiny_service", arguments, folder, {**os.environ, **settings})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def ask(port: int, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@contextmanager
def serving(folder: Path, *arguments: str, **settings: str) -> Iterator[tuple[preloaded.Process, int, Path]]:
    """The process of a service that listens, its port, and the file with its output."""
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "LOG_FORMAT": "json", **settings}
    output = folder.with_name("output")
    process = preloaded.start("tiny_service", arguments, folder, environment, output)
    try:
        eventually(lambda: output.exists() and "Uvicorn running" in output.read_text(encoding="utf-8"), TIMEOUT)
        yield process, port, output
    finally:
        kill_group(process)
        process.join()


def kill_group(process: preloaded.Process) -> None:
    """Kill the process with its workers."""
    if sys.platform == "win32":
        process.kill()
    else:
        assert process.pid is not None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_the_command_line_migrates_and_prints_its_documents(tiny: Path) -> None:
    tried = run(tiny, "migrate", "--dry-run")
    assert (tried.returncode, tried.stdout, "there is no database" in tried.stderr) == (2, "", True)
    migrated = run(tiny, "migrate", LOG_FORMAT="json")
    assert (migrated.returncode, migrated.stderr) == (0, "")
    line = json.loads(migrated.stdout)
    assert (line["message"], line["revision"]) == ("database migrated", "0002")
    assert rows(f"sqlite:///{tiny / 'data' / 'tiny-service.db'}", "SELECT version_num FROM alembic_version") == [
        ("0002",)
    ]
    tried = run(tiny, "migrate", "--dry-run", LOG_FORMAT="json")
    assert (tried.returncode, json.loads(tried.stdout)["message"]) == (0, "database is up to date")
    document = run(tiny, "openapi")
    assert json.loads(document.stdout)["info"]["title"] == "Tiny"


def test_an_invalid_setting_exits_with_status_2_and_one_line(tiny: Path) -> None:
    answer = run(tiny, PORT="hunter2")
    assert answer.returncode == 2
    assert answer.stderr.startswith("cannot start: PORT: ")
    assert (answer.stderr.count("\n"), answer.stdout) == (1, "")


def test_a_failed_migration_exits_with_status_2_and_one_line(tiny: Path) -> None:
    (tiny / "garbage.db").write_bytes(b"no database " * 1000)
    answer = run(tiny, DATABASE_URL="sqlite:///garbage.db")
    assert answer.returncode == 2
    assert answer.stderr == "cannot start: the database is unavailable or locked: file is not a database\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")
def test_a_process_serves_head_closes_failed_responses_and_drains(tiny: Path) -> None:
    with serving(tiny, DRAIN_SECONDS="0.5", LOG_LEVEL="DEBUG") as (process, port, output):
        status, headers, body = ask(port, "GET", "/health/ready")
        assert (status, body) == (200, b'{"status":"ready"}')
        head = ask(port, "HEAD", "/health/ready")
        assert (head[0], head[1]["content-length"], head[2]) == (200, headers["content-length"], b"")
        assert ask(port, "HEAD", "/unexpected")[0::2] == (500, b"")
        assert "server" not in headers
        with pytest.raises(http.client.IncompleteRead):
            ask(port, "GET", "/truncated")
        assert ask(port, "G@T", "/")[0] == 400

        process.terminate()
        stopped = time.monotonic()
        while ask(port, "GET", "/health/ready")[0] == 200:
            assert time.monotonic() < stopped + TIMEOUT
        status, headers, body = ask(port, "GET", "/health/ready")
        assert (status, json.loads(body)["code"]) == (503, "draining")
        assert "retry-after" in headers
        assert ask(port, "GET", "/health/live")[0] == 200
        process.join(TIMEOUT)
        assert process.exitcode == 0
        with pytest.raises(ConnectionRefusedError):
            ask(port, "GET", "/health/live")

    # Those of uvicorn as well: of its start and stop, of the connection, and of the exception.
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert all(line["service"] == "tiny-service" and line["level"] and line["time"] for line in lines)
    messages = [line["message"] for line in lines]
    for expected in ("Application startup complete.", "Shutting down", "Invalid HTTP request received."):
        assert expected in messages
    (failed,) = (line for line in lines if line["message"].startswith("Exception in ASGI application"))
    assert "LookupError" in failed["exception"]
    assert [line["route"] for line in lines if line["message"] == "request"][:2] == ["/health/ready"] * 2
    # uvicorn's own access log would contain the URL.
    assert not [line for line in lines if "HTTP/1.1" in line["message"]]


@pytest.mark.skipif(sys.platform == "win32", reason="a process group")
def test_a_worker_whose_event_loop_stands_still_is_replaced(tiny: Path) -> None:
    with serving(tiny, WATCHDOG_SECONDS="2", WORKERS="2") as (process, port, output):

        def messages() -> list[dict[str, Any]]:
            return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]

        def count(message: str) -> int:
            return sum(line["message"].startswith(message) for line in messages())

        eventually(lambda: count("Application startup complete.") >= 2, TIMEOUT, "both workers")
        started = count("Application startup complete.")
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(port, "GET", "/blocked")
        (last,) = (line for line in messages() if line["message"].startswith("the event loop stands still"))
        assert (last["level"], last["seconds"]) == ("critical", 2)
        assert "in block_the_loop" in last["stack"]
        eventually(lambda: count("Application startup complete.") > started, TIMEOUT, "another worker")
        assert ask(port, "GET", "/health/ready")[0] == 200
        process.terminate()
        process.join(TIMEOUT)
        assert process.exitcode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="the process group is stopped otherwise")
def test_with_reload_a_saved_file_restarts_the_service(tiny: Path) -> None:
    code = tiny / "tiny_service.py"

    def title() -> str | None:
        try:
            return str(json.loads(ask(port, "GET", "/openapi.json")[2])["info"]["title"])
        except (OSError, http.client.HTTPException):
            return None  # The service restarts.

    with serving(tiny, "serve", "--reload", str(tiny)) as (process, port, _):
        eventually(lambda: title() == "Tiny", TIMEOUT, "the service answers")
        code.write_text(TINY.replace('title="Tiny"', 'title="Changed"'), encoding="utf-8")
        eventually(lambda: title() == "Changed", TIMEOUT, "the saved file is served")
        process.terminate()
        process.join(TIMEOUT)
        assert process.exitcode == 0
        with pytest.raises(ConnectionRefusedError):
            ask(port, "GET", "/health/live")
