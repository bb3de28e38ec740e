"""Durability: an acknowledged write is stored, despite kill -9, failing commits, a full disk and concurrent writers."""

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from testkit.processes import Account, Service, Services, eventually, problem
from tests.streams import Stream, assert_kept, create, names_of_products

PASSWORD = "correct horse battery staple"
FAIL_AT_COMMIT = {
    # A row with a dangling reference, which only the commit detects.
    "sqlite": [
        "CREATE TABLE late (id INTEGER REFERENCES {table} (id) DEFERRABLE INITIALLY DEFERRED)",
        (
            "CREATE TRIGGER late AFTER INSERT ON {table} WHEN new.{column} = 'too-late' "
            "BEGIN INSERT INTO late VALUES (-1); END"
        ),
    ],
    "postgresql": [
        (
            "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the commit fails'; END $$"
        ),
        (
            "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW WHEN (new.{column} = 'too-late') EXECUTE FUNCTION late()"
        ),
    ],
}


@pytest.fixture(scope="module")
def services(services_on_both: Services) -> Services:
    return services_on_both


@pytest.fixture(scope="module")
def owner(services: Services) -> Account:
    return services.sign_up()


def register(client: httpx.Client, name: str) -> httpx.Response:
    return client.post("/register", json={"username": name, "password": PASSWORD})


def fail_at_commit(service: Service, backend: str, table: str, column: str) -> None:
    """Make the commit of a row with the value `too-late` fail."""
    for statement in FAIL_AT_COMMIT[backend]:
        service.sql(statement.format(table=table, column=column))


def test_acknowledged_products_survive_kill_9(services: Services, owner: Account) -> None:
    with Stream(services.products, create, prefix="killed", headers=owner.bearer) as stream:
        stream.flows(50)
        services.products.kill()
        eventually(lambda: stream.counts[None] >= 4, 10, "all clients lost their connection")
        services.products.start().wait_ready()
        stream.flows(50)
    assert set(stream.counts) == {201, None}
    assert_kept(stream, names_of_products(services, "killed"))


def test_acknowledged_accounts_survive_kill_9(services: Services) -> None:
    with Stream(services.users, register, prefix="killed") as stream:
        stream.flows(50)
        services.users.kill()
        eventually(lambda: stream.counts[None] >= 4, 10, "all clients lost their connection")
        services.users.start().wait_ready()
        stream.flows(20)
    assert set(stream.counts) == {201, None}
    rows = services.users.sql("SELECT username FROM users WHERE username LIKE 'killed-%'")
    assert_kept(stream, Counter(str(name) for (name,) in rows))
    newest = max(stream.names(201), key=lambda name: int(name.rpartition("-")[2]))
    assert services.log_in(newest, PASSWORD)


def test_a_failing_commit_of_a_product_is_a_500_and_stores_nothing(
    services: Services, owner: Account, backend: str
) -> None:
    fail_at_commit(services.products, backend, "products", "name")
    with services.products.client(headers=owner.bearer) as client:
        for _ in range(3):
            answer = create(client, "too-late")
            problem(answer, 500)
            assert "location" not in answer.headers
            # The connection is usable for the next request.
            assert create(client, "in-time").status_code == 201
    assert names_of_products(services, "too-late") == {}
    assert names_of_products(services, "in-time") == {"in-time": 3}


def test_a_failing_commit_of_an_account_is_a_500_and_stores_nothing(services: Services, backend: str) -> None:
    fail_at_commit(services.users, backend, "users", "username")
    with services.users.client() as client:
        problem(register(client, "too-late"), 500)
        assert register(client, "in-time").status_code == 201
        credentials = {"username": "too-late", "password": PASSWORD}
        problem(client.post("/login", json=credentials), 401, "invalid-credentials")
    assert services.users.sql("SELECT count(*) FROM users WHERE username = 'too-late'") == [(0,)]


@pytest.mark.sqlite
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can set limits of a running process")
def test_a_full_disk_is_a_503_until_there_is_room_again(services: Services, owner: Account) -> None:
    import resource  # Windows has no such module.

    service = services.products
    files = [service.log_file, *Path(service.database_url.removeprefix("sqlite:///")).parent.iterdir()]
    full = max(file.stat().st_size for file in files) + 2**16  # The size limit of each file of the service, in bytes.
    limits = resource.prlimit(service.pid, resource.RLIMIT_FSIZE)
    with Stream(service, create, prefix="full", headers=owner.bearer) as stream, service.client() as client:
        stream.flows(5)
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (full, limits[1]))
        try:
            stream.flows(20, status=503)
            assert client.get("/products").status_code == 200
        finally:
            resource.prlimit(service.pid, resource.RLIMIT_FSIZE, limits)
        stream.flows(20)
    assert set(stream.counts) == {201, 503}
    assert set(names_of_products(services, "full")) == stream.names(201)


def test_fifty_concurrent_writers_succeed_and_do_not_block_reads(services: Services, owner: Account) -> None:
    def write(number: int) -> list[int]:
        with services.products.client(headers=owner.bearer) as client:
            return [create(client, f"fifty-{number}-{n}").status_code for n in range(4)]

    def read(client: httpx.Client, _: str) -> httpx.Response:
        return client.get("/products?limit=5")

    with ThreadPoolExecutor(50) as writers, Stream(services.products, read, clients=2) as reads:
        statuses = Counter(status for written in writers.map(write, range(50)) for status in written)
        during = reads.counts.copy()
    assert statuses == {201: 200}
    assert set(reads.counts) == {200}
    assert during[200] >= 20
    assert len(names_of_products(services, "fifty")) == 200
    assert "database is locked" not in services.products.log
