"""Processes: start, several workers, shutdown, and invalid configurations."""

import json
import os
import signal
import socket
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest

from product_service import composition
from product_service.settings import Settings as ProductSettings
from testkit.processes import Service, eventually, problem, running_services
from testkit.traces import receiving
from user_service import __version__
from user_service.settings import SAMPLE_KEYS

SECRET = "hunter2-must-never-be-printed-anywhere"
Make = Callable[..., Service]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes services with given settings, and stops them after the test."""
    with ExitStack() as cleanup:

        def make(name: str, folder: str = "one", **environment: str) -> Service:
            service = Service(name, tmp_path / folder, **environment)
            cleanup.callback(service.close)
            return service

        yield make


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def workers_of(service: Service) -> list[int]:
    started = [line["message"] for line in service.log_lines if line["message"].startswith("Started server process")]
    return [int(message.strip("]").rpartition("[")[2]) for message in started]


def test_two_workers_both_answer_and_stop_and_the_parent_migrates_once(make: Make) -> None:
    with receiving() as receiver:
        _use_two_workers(
            make("user-service", WORKERS="2", DRAIN_SECONDS="300", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
        )
    # Each has exported its spans, the last ones when it stopped.
    validations = Counter(
        (span.service, span.resource["service.version"], span.resource["service.instance.id"])
        for span in receiver.spans
        if span.name == "POST /validate-token"
    )
    assert [each[:2] for each in validations] == [("user-service", __version__)] * 2
    assert min(validations.values()) >= 2


def _use_two_workers(service: Service) -> None:
    service.start().wait_ready()
    workers = eventually(lambda: pids if len(pids := workers_of(service)) == 2 else None, 20, "two workers")
    assert service.pid not in workers
    migrated = [line["message"] for line in service.log_lines if line["message"].startswith("database ")]
    assert migrated == ["database migrated"]
    assert service.log.count("each worker counts attempts separately: set RATE_LIMIT_STORAGE_URL") == 1
    eventually(lambda: service.log.count("Application startup complete") == 2, 20, "both workers have started")

    credentials = {"username": "ada", "password": "correct horse battery staple"}
    with service.client() as client:
        assert client.post("/register", json=credentials).status_code == 201
    tokens = []
    for paused in workers:
        # While one worker is paused, only the other answers; a request that the paused one accepted is repeated.
        os.kill(paused, signal.SIGSTOP)
        try:
            tokens.append(eventually(lambda: _log_in(service, credentials), 20, "the other answers"))
        finally:
            os.kill(paused, signal.SIGCONT)
    for paused in workers:
        os.kill(paused, signal.SIGSTOP)
        try:
            for token in tokens:
                assert eventually(lambda token=token: _validate(service, token), 20, "the other answers")["valid"]  # type: ignore[misc]
        finally:
            os.kill(paused, signal.SIGCONT)

    os.killpg(service.pid, signal.SIGINT)  # As Ctrl-C in a terminal does: there is no load balancer to wait for.
    assert service.wait_ended() == 0
    eventually(lambda: not any(is_alive(pid) for pid in workers), 10, "the workers have stopped")
    with closing(socket.socket()) as reused:
        reused.bind(("127.0.0.1", service.port))


def _log_in(service: Service, credentials: dict[str, str]) -> str | None:
    try:
        with service.client(timeout=1) as client:
            return str(client.post("/login", json=credentials).json()["access_token"])
    except httpx.TransportError:
        return None


def _validate(service: Service, token: str) -> dict[str, object] | None:
    try:
        with service.client(timeout=1) as client:
            answer: dict[str, object] = client.post("/validate-token", json={"token": token}).json()
            return answer
    except httpx.TransportError:
        return None


def test_processes_that_start_at_once_on_a_new_database_all_work(make: Make, tmp_path: Path) -> None:
    data = str(tmp_path / "shared")
    services = [make("user-service", f"number-{n}", DATA_DIR=data) for n in range(4)]
    for service in services:
        service.start()
    for service in services:
        service.wait_ready(60)
    messages = [line["message"] for service in services for line in service.log_lines]
    assert messages.count("database migrated") == 1
    assert messages.count("database is up to date") == 3
    # They share a key and a database.
    credentials = {"username": "ada", "password": "correct horse battery staple"}
    with services[0].client() as first, services[3].client() as last:
        account = first.post("/register", json=credentials).json()
        token = last.post("/login", json=credentials).json()["access_token"]
        assert first.get("/me", headers={"Authorization": f"Bearer {token}"}).json() == account


@pytest.mark.parametrize("workers", ["1", "2"])
def test_after_sigterm_requests_finish_and_readiness_is_draining(make: Make, workers: str) -> None:
    service = make("user-service", DRAIN_SECONDS="1", WORKERS=workers).start().wait_ready()
    body = b'{"username": "ada", "password": "correct horse battery staple"}'
    head = (
        f"POST /register HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), 20) as slow, service.client() as client:
        slow.sendall(head.encode())
        # The service sends this when it begins to read the body: now the request is in progress.
        assert slow.recv(1000).startswith(b"HTTP/1.1 100")
        assert "connection" not in client.get("/health/live").headers
        service.process.terminate()

        def draining() -> httpx.Response | None:
            answer = client.get("/health/ready")
            return answer if answer.status_code == 503 else None

        not_ready = eventually(draining, 10, "draining")
        problem(not_ready, 503, "draining")
        assert not_ready.headers["retry-after"]
        alive = client.get("/health/live")
        # A client that keeps its connection would be cut off later, maybe in the middle of a request.
        assert (alive.status_code, alive.headers["connection"]) == (200, "close")
        service.wait_for_log_line("Shutting down")
        slow.sendall(body)
        assert slow.recv(1000).startswith(b"HTTP/1.1 201")
    assert service.wait_ended() == 0
    with closing(sqlite3.connect(service.database)) as connection:
        assert connection.execute("SELECT username FROM users").fetchall() == [("ada",)]


def test_sigterm_stops_an_idle_service_with_open_connections(make: Make) -> None:
    service = make("product-service").start().wait_ready()
    with service.client() as client:
        assert client.get("/products").json() == []
        assert service.stop(within=10) == 0
    assert not list(service.data.glob("*.db-wal"))


def test_a_request_that_is_on_its_way_when_the_service_stops_is_answered(make: Make) -> None:
    service = make("product-service").start().wait_ready()
    with socket.create_connection(("127.0.0.1", service.port), 20) as new, service.client() as client:
        # It connects later, so the service has accepted the other connection as well.
        assert client.get("/health/live").status_code == 200
        service.process.terminate()
        service.wait_for_log_line("Shutting down")
        new.sendall(b"GET /products HTTP/1.1\r\nHost: a\r\n\r\n")
        assert new.recv(1000).startswith(b"HTTP/1.1 200")
        with suppress(ConnectionError):
            while new.recv(1000):
                pass
    assert service.wait_ended() == 0


def test_an_export_that_has_begun_is_completed_after_sigterm(tmp_path: Path) -> None:
    with running_services(tmp_path, DRAIN_SECONDS="0.2") as services:
        owner = services.sign_up()
        draft = {"name": "Lamp", "description": "d" * 10_000, "price": "1", "quantity": 1}
        lines = "".join(json.dumps({**draft, "sku": f"S{number}"}) + "\n" for number in range(1500))
        with services.products.client(headers=owner.bearer, timeout=60) as client:
            headers = {"Content-Type": "application/x-ndjson"}
            assert client.post("/products/import", content=lines, headers=headers).json()["created"] == 1500
            with client.stream("GET", "/products/export?format=ndjson") as answer:
                # 15 MB do not fit into the buffers, so the service can't end the response before it is read.
                content = answer.iter_raw()
                exported = next(content)
                services.products.process.terminate()
                services.products.wait_for_log_line("Shutting down")
                exported += b"".join(content)
        assert services.products.wait_ended() == 0
        assert {json.loads(line)["sku"] for line in exported.splitlines()} == {f"S{number}" for number in range(1500)}
        assert not list(services.products.data.glob("*.db-wal"))


def test_ctrl_c_does_not_drain(make: Make) -> None:
    service = make("product-service", DRAIN_SECONDS="300").start().wait_ready()
    os.kill(service.pid, signal.SIGINT)
    assert service.wait_ended() == 0


def _make_newer_database(folder: Path, name: str) -> None:
    database = folder / "data" / f"{name}.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.commit()


PRODUCTION = {"ENVIRONMENT": "production", "DATABASE_URL": "sqlite:///users.db", "BCRYPT_COST": "12"}
INVALID_STARTS: dict[str, tuple[str, dict[str, str], list[str]]] = {
    "production without a database": ("product-service", {"ENVIRONMENT": "production"}, ["DATABASE_URL"]),
    "production without a key": ("user-service", PRODUCTION, ["SECRET_KEY"]),
    "production with the sample key": ("user-service", {**PRODUCTION, "SECRET_KEY": SAMPLE_KEYS[0]}, ["SECRET_KEY"]),
    "production with a short key": ("user-service", {**PRODUCTION, "SECRET_KEY": SECRET[:31]}, ["SECRET_KEY"]),
    "production with cheap hashes": (
        "user-service",
        {**PRODUCTION, "SECRET_KEY": SECRET, "BCRYPT_COST": "11"},
        ["BCRYPT_COST"],
    ),
    "four invalid settings": (
        "user-service",
        {
            "PORT": "80001",
            "BCRYPT_COST": "three",
            "LOG_LEVEL": "loud",
            "DATABASE_URL": f"mysql://someone:{SECRET}@localhost/shop",
            "SECRET_KEY": SECRET,
        },
        ["PORT", "BCRYPT_COST", "LOG_LEVEL", "DATABASE_URL"],
    ),
    "a user service URL with a password": (
        "product-service",
        {"USER_SERVICE_URL": f"http://someone:{SECRET}@localhost:8001", "DATABASE_URL": "sqlite://", "PORT": "http"},
        ["USER_SERVICE_URL", "DATABASE_URL", "PORT"],
    ),
    "a database of a newer version": ("product-service", {}, ["9999"]),
    "a database of the other service": ("user-service", {}, ["another service"]),
    "a file that is not a database": ("product-service", {}, ["database"]),
    "a data folder that can't be created": ("user-service", {"DATA_DIR": "occupied"}, ["folder"]),
}


def prepare(what: str, service: Service) -> None:
    """Put the database or folder of this case in place."""
    service.data.mkdir()
    if what == "a database of a newer version":
        _make_newer_database(service.folder, service.name)
    elif what == "a database of the other service":
        url = f"sqlite:///{service.database}"
        composition.migrations(ProductSettings.model_construct(database_url=url)).upgrade()
    elif what == "a file that is not a database":
        service.database.write_bytes(b"This is a text of more than a hundred bytes, and not a database. " * 20)
    elif what == "a data folder that can't be created":
        (service.folder / "occupied").write_text("by a file")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_start_that_fails_in_the_workers_has_a_status(make: Make, workers: str) -> None:
    unusable = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_MAX_QUEUE_SIZE": "1"}
    service = make("user-service", WORKERS=workers, **unusable)
    assert service.start().wait_ended(60) == 3, service.log


def test_an_invalid_configuration_is_reported_in_one_line_per_error(make: Make) -> None:
    services = {
        what: make(name, f"number-{number}", **settings)
        for number, (what, (name, settings, _)) in enumerate(INVALID_STARTS.items())
    }

    def start(what: str) -> int:
        prepare(what, services[what])
        return services[what].start().wait_ended(60)

    with ThreadPoolExecutor(2) as threads:
        statuses = dict(zip(services, threads.map(start, services), strict=True))
    for what, service in services.items():
        _, _, named = INVALID_STARTS[what]
        lines = [line for line in service.log.splitlines() if not line.startswith("warning: ")]
        assert statuses[what] == 2, (what, lines)
        assert len(lines) == len(named), (what, lines)
        assert all(line.startswith("cannot start: ") for line in lines), (what, lines)
        for word in named:
            assert len([line for line in lines if word in line]) == 1, (what, lines)
        assert SECRET[:16] not in service.log, what


def test_an_unusable_address_is_reported_in_one_line(make: Make) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        service = make("product-service", "taken", PORT=str(taken.getsockname()[1]))
        nowhere = make("user-service", "nowhere", HOST="192.0.2.1")
        assert [each.start().wait_ended(30) for each in (service, nowhere)] == [2, 2]
    taken_port = f"port {service.port} of 127.0.0.1 is in use"
    assert service.log == f"cannot start: {taken_port}: stop the program that uses it, or set PORT\n"
    assert nowhere.log.startswith("cannot start: can't listen on 192.0.2.1:")
    assert nowhere.log.count("\n") == 1
