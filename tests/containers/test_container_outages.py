"""Containers that are killed, paused and stopped under the system, and what of it a client notices."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from testkit.processes import Account, Endpoint, Pair, eventually, problem
from tests.containers.composition import DATABASES, Composition
from tests.streams import Stream, assert_kept, create, names_of_products

VALIDATION_TIMEOUT = 2.0
LONGEST = 10.0 + 5.0 + 1.0
"""Seconds that a request may take while its database hangs: DATABASE_TIMEOUT, DATABASE_POOL_TIMEOUT and one more."""
DRAFT = {"name": "Lamp", "price": "19.99", "quantity": 3}
KILL = """
import glob, os
for process in glob.glob("/proc/[0-9]*/cmdline"):
    if open(process, "rb").read().split(b"\\0")[1:3] == [b"-m", b"%s"]:
        os.kill(int(process.split("/")[2]), 9)
        print("killed")
"""


@contextmanager
def outage(composed: Composition, name: str, kind: str) -> Iterator[None]:
    """A container is away for some time."""
    composed.compose(kind, name)
    try:
        yield
    finally:
        composed.compose("unpause" if kind == "pause" else "start", name)


def kill_from_within(composed: Composition, service: str) -> None:
    """SIGKILL for the service's process, as when memory runs out; the container is not stopped on purpose."""
    code = KILL % service.replace("-", "_")
    assert "killed" in composed.run_inside(service, "python", "-c", code).stdout


def timed(client: httpx.Client, method: str, path: str, within: float, **options: object) -> httpx.Response:
    started = time.monotonic()
    answer = client.request(method, path, **options)  # type: ignore[arg-type]
    assert time.monotonic() - started < within, (method, path, answer.status_code)
    return answer


@pytest.mark.parametrize("kind", ["kill", "pause", "stop"])
def test_without_the_user_service_protected_calls_are_503_and_reads_go_on(composed: Composition, kind: str) -> None:
    services = composed.services
    owner = services.sign_up()
    address = f"/products/{services.create_product(owner)['id']}"
    products = composed.started_at("product-service")
    with services.products.client(headers=owner.bearer) as client:
        before = client.get(address).json()
        with outage(composed, "user-service", kind):
            for method, path in (("POST", "/products"), ("PUT", address), ("DELETE", address)):
                answer = timed(client, method, path, VALIDATION_TIMEOUT + 1, json=None if method == "DELETE" else DRAFT)
                problem(answer, 503, "auth-unavailable")
                assert int(answer.headers["retry-after"]) >= 1
                assert client.get("/products").status_code == 200
                assert client.get(address).json() == before
                assert client.get("/health/ready").status_code == 200
        services.users.wait_ready()
        assert client.put(address, json={"quantity": 4}).json()["quantity"] == 4
    assert composed.started_at("product-service") == products


@pytest.mark.parametrize("service", DATABASES)
def test_a_service_whose_process_is_killed_is_started_again_by_itself(composed: Composition, service: str) -> None:
    services = composed.services
    owner = services.sign_up()
    before = composed.started_at(service)
    kill_from_within(composed, service)
    eventually(lambda: composed.started_at(service)[1] == before[1] + 1, 30, "a restart")
    (services.users if service == "user-service" else services.products).wait_ready(60)
    assert services.create_product(owner)["owner_id"] == owner.id


def calls_of(services: Pair, service: str, owner: Account) -> tuple[Endpoint, Endpoint, list[tuple[str, str, object]]]:
    """The service, the other one, and calls that need its database."""
    credentials = {"username": owner.username, "password": owner.password}
    if service == "user-service":
        calls: list[tuple[str, str, object]] = [("GET", "/me", None), ("POST", "/login", credentials)]
        calls.append(("POST", "/register", {**credentials, "username": f"{owner.username}-twin"}))
        return services.users, services.products, calls
    return services.products, services.users, [("GET", "/products", None), ("POST", "/products", DRAFT)]


@pytest.mark.parametrize("kind", ["pause", "stop", "kill"])
@pytest.mark.parametrize("service", DATABASES)
def test_without_its_database_a_service_says_so_in_time_and_is_back_with_it(
    composed: Composition, service: str, kind: str
) -> None:
    services = composed.services
    owner = services.sign_up()
    product = services.create_product(owner)
    concerned, other, calls = calls_of(services, service, owner)
    before = {name: composed.started_at(name) for name in DATABASES}
    with concerned.client(headers=owner.bearer) as client, other.client(headers=owner.bearer) as bystander:
        with outage(composed, DATABASES[service], kind):
            for method, path, body in calls:
                answer = timed(client, method, path, LONGEST, json=body)
                problem(answer, 503)
                assert int(answer.headers["retry-after"]) >= 1
                assert "www-authenticate" not in answer.headers
                assert timed(client, "GET", "/health/live", 2).status_code == 200
                if service == "user-service":
                    assert timed(bystander, "GET", f"/products/{product['id']}", 2).json() == product
                    answer = timed(bystander, "POST", "/products", VALIDATION_TIMEOUT + 1, json=DRAFT)
                    problem(answer, 503, "auth-unavailable")
                else:
                    assert timed(bystander, "GET", "/me", 2).json()["id"] == owner.id
                assert timed(bystander, "GET", "/health/ready", 2).status_code == 200
            # It stays ready: a gateway without any ready instance would answer instead.
            assert timed(client, "GET", "/health/ready", 2).status_code == 200
        eventually(lambda: client.get("/health").json()["database"] == "ok", 60, "the database is back")
        # Nothing of the outage is left, for reads and writes alike.
        for method, path, body in calls * 3:
            answer = client.request(method, path, json=body)
            assert answer.status_code in (200, 201, 409), answer.text
        assert services.create_product(owner)["owner_id"] == owner.id
    assert {name: composed.started_at(name) for name in DATABASES} == before


def test_writes_that_were_acknowledged_outlive_the_death_of_the_service(composed: Composition) -> None:
    services = composed.services
    owner = services.sign_up()
    before = composed.started_at("product-service")
    with Stream(services.products, create, prefix="outlive", headers=owner.bearer) as stream:
        stream.flows(50)
        kill_from_within(composed, "product-service")
        # Docker starts it again, and the stream flows on.
        stream.flows(50)
    assert composed.started_at("product-service")[1] == before[1] + 1
    assert_kept(stream, names_of_products(services, "outlive"))


def test_writes_that_were_acknowledged_outlive_the_death_of_the_database(composed: Composition) -> None:
    services = composed.services
    owner = services.sign_up()
    with Stream(services.products, create, prefix="database", headers=owner.bearer) as stream:
        stream.flows(50)
        with outage(composed, "product-database", "kill"):
            stream.flows(4, status=503)
        services.products.wait_ready(60)
        stream.flows(50)
    assert None not in stream.counts
    assert_kept(stream, names_of_products(services, "database"))
