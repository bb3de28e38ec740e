"""The product service during and after an outage of the user service."""

import secrets
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import pytest

from testkit.processes import Account, Service, Services, eventually, problem, running_services
from tests.streams import Stream, create

DEADLINE = 1.0
TOLERANCE = 5.0  # seconds of delay to allow on a busy machine
RECOVERED_WITHIN = 2.0  # seconds
DRAFT = {"name": "Lamp", "price": "19.99", "quantity": 3}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    with running_services(folder, VALIDATION_TIMEOUT=str(DEADLINE), LOG_LEVEL="DEBUG") as services:
        yield services


@contextmanager
def outage(users: Service, kind: str) -> Iterator[None]:
    """An outage of the user service; afterwards it is back, with the same data and the same address."""
    {"stopped": users.stop, "killed": users.kill, "hanging": users.pause}[kind]()
    try:
        yield
    finally:
        if users.is_running:
            users.resume()
        else:
            users.start()
        users.wait_ready()


def call_protected(client: httpx.Client, owner: Account, product_id: int) -> list[httpx.Response]:
    """Call three protected operations, and assert that none exceeds the deadline."""
    answers = []
    for method, path, body in (
        ("POST", "/products", DRAFT),
        ("PUT", f"/products/{product_id}", {"quantity": 99}),
        ("DELETE", f"/products/{product_id}", None),
    ):
        started = time.monotonic()
        answers.append(client.request(method, path, json=body, headers=owner.bearer))
        assert time.monotonic() - started < DEADLINE + TOLERANCE
    return answers


@pytest.mark.parametrize("kind", ["killed", "hanging"])
def test_during_an_outage_protected_calls_are_503_and_reads_work(services: Services, kind: str) -> None:
    owner = services.sign_up()
    product = services.create_product(owner)
    address = f"/products/{product['id']}"
    with services.products.client() as client:
        before = client.get("/products?limit=100").json()
        with outage(services.users, kind):
            for answer in call_protected(client, owner, product["id"]):
                problem(answer, 503, "auth-unavailable")
                assert int(answer.headers["retry-after"]) >= 1
                assert "www-authenticate" not in answer.headers
                # Errors that need no call to the user service are unchanged.
                problem(client.delete(address), 401, "not-authenticated")
                problem(client.delete(address, headers={b"Authorization": "Bearer ä".encode()}), 401)
                assert client.get("/products?limit=100").json() == before
                assert client.get(address).json() == product
                assert client.head(address).status_code == 200
                assert client.get("/health/ready").status_code == 200
                assert client.get("/health/live").status_code == 200
        assert client.put(address, json={"quantity": 4}, headers=owner.bearer).json()["quantity"] == 4


def test_reads_are_fast_while_many_protected_calls_wait(services: Services) -> None:
    owner = services.sign_up()
    with services.products.client() as client, ThreadPoolExecutor(30) as threads, outage(services.users, "hanging"):

        def create(_: int) -> tuple[httpx.Response, float]:
            started = time.monotonic()
            return client.post("/products", json=DRAFT, headers=owner.bearer), time.monotonic() - started

        waiting = [threads.submit(create, n) for n in range(30)]
        reads = 0
        while not all(each.done() for each in waiting):
            started = time.monotonic()
            assert client.get("/products").status_code == 200
            assert time.monotonic() - started < DEADLINE
            reads += 1
        assert reads >= 3
        for each in waiting:
            answer, took = each.result()
            problem(answer, 503, "auth-unavailable")
            assert took < DEADLINE + TOLERANCE


def test_health_shows_the_outage_and_the_recovery(services: Services) -> None:
    owner = services.sign_up()
    product_service = services.products.pid

    def status() -> tuple[str, str]:
        answer = client.get("/health")
        assert answer.status_code == 200
        body = answer.json()
        assert body["user_service"]["url"] == services.users.url
        return body["status"], body["user_service"]["status"]

    with services.products.client() as client:
        with outage(services.users, "stopped"):
            eventually(lambda: status() == ("degraded", "unavailable"), 8, "degraded")
            for answer in call_protected(client, owner, 1):
                problem(answer, 503, "auth-unavailable")
            assert client.get("/health").json()["database"] == "ok"
        # The breaker may stay open for another second; /health may lag by some seconds.
        eventually(
            lambda: client.post("/products", json=DRAFT, headers=owner.bearer).status_code == 201, 2, "a success"
        )
        eventually(lambda: status() == ("ok", "ok"), 8, "ok")
    assert services.products.pid == product_service
    assert services.products.is_running


@pytest.mark.parametrize("kind", ["killed", "hanging"])
def test_protected_calls_recover_within_two_seconds(services: Services, kind: str) -> None:
    owner = services.sign_up()
    with (
        Stream(services.products, create, prefix=kind, headers=owner.bearer) as stream,
        services.products.client(headers=owner.bearer) as client,
    ):
        stream.flows()
        with outage(services.users, kind):
            stream.flows(20, status=503)
            assert client.get("/health").json()["user_service"]["breaker"] in ("open", "half-open")
            assert client.get("/health/ready").status_code == 200
        eventually(lambda: create(client, "probe").status_code == 201, RECOVERED_WITHIN, "validations succeed")
        # A call that was rejected just before may be recorded just after.
        stream.flows(20)
        lost = stream.names(503)
        stream.flows(50)
        assert stream.names(503) == lost
        assert client.get("/health").json()["user_service"]["breaker"] == "closed"
    assert set(stream.counts) == {201, 503}


def test_a_token_survives_a_restart_of_the_user_service(services: Services) -> None:
    key_file = services.users.data / "secret-key"
    key = key_file.read_bytes()
    owner = services.sign_up()
    process = services.users.pid
    services.users.restart()
    assert services.users.pid != process
    assert services.create_product(owner)["owner_id"] == owner.id
    with services.users.client(headers=owner.bearer) as client:
        assert client.get("/me").json()["id"] == owner.id
    assert key_file.read_bytes() == key
    assert len(key) >= 32
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_logs_contain_no_password_token_or_key(services: Services) -> None:
    owner = services.sign_up(password="a-password-" + secrets.token_hex(8))
    product = services.create_product(owner)
    wrong, short, stray = (f"{kind}-password-{secrets.token_hex(8)}" for kind in ("wrong", "short", "stray"))
    forged = owner.token[:-8] + "AAAAAAAA"
    name = owner.username
    with services.users.client() as users, services.products.client() as products:
        answers = [
            users.post("/register", json={"username": name, "password": wrong}),
            users.post("/register", json={"username": "no such name", "password": wrong}),
            users.post("/register", json={"username": "new", "password": [wrong]}),
            users.post("/register", content=f'{{"username": "new", "password": "{wrong}"'),
            users.post("/register", content=wrong, headers={"Content-Type": "text/plain"}),
            users.post("/register", json={wrong: wrong}),
            users.post("/login", data={"username": name, "password": wrong}),
            users.post("/login", json={"username": wrong, "password": wrong}),
            users.post("/login", data={"username": name, "password": wrong, stray: owner.token}),
            users.post("/login?password=" + wrong),
            users.get("/" + wrong),
            users.get("/me", headers={"Authorization": "Bearer " + forged}),
            users.get("/me", headers={"Authorization": owner.token, "X-Request-ID": f"{stray} {stray}"}),
            users.get("/me", params={"access_token": owner.token}),
            users.post("/validate-token", json={"token": [owner.token]}),
            users.post("/validate-token", json={"token": owner.token * 100}),
            products.get("/products/" + owner.token),
            products.get("/products", params={"token": owner.token}),
            products.post("/products", json={**DRAFT, "password": wrong}, headers=owner.bearer),
            products.post("/products", json=DRAFT, headers={"Authorization": "Bearer " + forged}),
            products.post("/products", json=DRAFT, headers={"Authorization": "Basic " + owner.token}),
            products.post("/" + owner.token, headers={"Cookie": owner.token}),
        ]
        for answer in answers:
            assert 400 <= answer.status_code < 500, answer.url
        assert users.post("/validate-token", json={"token": owner.token}).json()["valid"]
        assert not users.post("/validate-token", json={"token": forged}).json()["valid"]
        _send_nonsense(services.users, owner.token)
        _send_nonsense(services.products, owner.token)
        with outage(services.users, "hanging"):
            call_protected(products, owner, product["id"])
        last = products.delete(f"/products/{product['id']}", headers=owner.bearer)
        services.products.wait_for_log_line("request", request_id=last.headers["x-request-id"])

    key = (services.users.data / "secret-key").read_text(encoding="ascii")
    parts = [*owner.token.split("."), forged.rpartition(".")[2]]
    # The first part of a token is the same for all tokens and not secret; the others are.
    for service in (services.users, services.products):
        log = service.log
        assert '"level": "warning"' in log if service is services.products else '"POST"' in log
        for secret in (owner.password, wrong, short, stray, owner.token, *parts[1:], key):
            assert secret not in log


def _send_nonsense(service: Service, secret: str) -> None:
    """Send requests that the HTTP parser itself rejects."""
    for request in (f"GET /{secret}\r\n\r\n", f"GET / HTTP/1.1\r\nAuthorization {secret}\r\n\r\n", f"{secret}\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
            connection.sendall(request.encode())
            with suppress(ConnectionResetError):
                assert not connection.recv(1000).startswith(b"HTTP/1.1 2")
