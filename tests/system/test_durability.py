"""Acknowledged means stored: services that are killed, commits that fail, and many who write at once."""

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from testkit.processes import Account, Service, Services, eventually, problem
from tests.streams import Stream, assert_kept, create, names_of_products

PASSWORD = "correct horse battery staple"
LATE_REFUSAL = {
    # A row that refers to nothing, which only the commit finds out.
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


def refuse_at_commit(service: Service, backend: str, table: str, column: str) -> None:
    """See to it that a row with the value `too-late` gets as far as the commit, and no further."""
    for statement in LATE_REFUSAL[backend]:
        service.sql(statement.format(table=table, column=column))


def test_products_that_were_acknowledged_outlive_kill_9(services: Services, owner: Account) -> None:
    with Stream(services.products, create, prefix="killed", headers=owner.bearer) as stream:
        stream.flows(50)
        services.products.kill()
        eventually(lambda: stream.counts[None] >= 4, 10, "every client has noticed")
        services.products.start().wait_ready()
        stream.flows(50)
    assert set(stream.counts) == {201, None}
    assert_kept(stream, names_of_products(services, "killed"))


def test_accounts_that_were_acknowledged_outlive_kill_9(services: Services) -> None:
    with Stream(services.users, register, prefix="killed") as stream:
        stream.flows(50)
        services.users.kill()
        eventually(lambda: stream.counts[None] >= 4, 10, "every client has noticed")
        services.users.start().wait_ready()
        stream.flows(20)
    assert set(stream.counts) == {201, None}
    rows = services.users.sql("SELECT username FROM users WHERE username LIKE 'killed-%'")
    assert_kept(stream, Counter(str(name) for (name,) in rows))
    newest = max(stream.names(201), key=lambda name: int(name.rpartition("-")[2]))
    assert services.log_in(newest, PASSWORD)


def test_a_product_whose_commit_fails_gets_no_2xx_and_is_not_there(
    services: Services, owner: Account, backend: str
) -> None:
    refuse_at_commit(services.products, backend, "products", "name")
    with services.products.client(headers=owner.bearer) as client:
        for _ in range(3):
            answer = create(client, "too-late")
            problem(answer, 500)
            assert "location" not in answer.headers
            # The same connection, if it is the same, is fit for the next one.
            assert create(client, "in-time").status_code == 201
    assert names_of_products(services, "too-late") == {}
    assert names_of_products(services, "in-time") == {"in-time": 3}


def test_an_account_whose_commit_fails_gets_no_2xx_and_is_not_there(services: Services, backend: str) -> None:
    refuse_at_commit(services.users, backend, "users", "username")
    with services.users.client() as client:
        problem(register(client, "too-late"), 500)
        assert register(client, "in-time").status_code == 201
        credentials = {"username": "too-late", "password": PASSWORD}
        problem(client.post("/login", json=credentials), 401, "invalid-credentials")
    assert services.users.sql("SELECT count(*) FROM users WHERE username = 'too-late'") == [(0,)]


@pytest.mark.sqlite
@pytest.mark.skipif(sys.platform != "linux", reason="only there a running process can be given limits")
def test_a_disk_that_is_full_is_heard_of_in_time_and_forgotten_when_there_is_room_again(
    services: Services, owner: Account
) -> None:
    import resource  # Windows has no such module.

    service = services.products
    files = [service.log_file, *Path(service.database_url.removeprefix("sqlite:///")).parent.iterdir()]
    full = max(file.stat().st_size for file in files) + 2**16  # Bytes that no file of the service may exceed.
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


def test_fifty_who_write_at_once_all_succeed_and_reads_flow_meanwhile(services: Services, owner: Account) -> None:
    def write(number: int) -> list[int]:
        with services.products.client(headers=owner.bearer) as client:
            return [create(client, f"fifty-{number}-{turn}").status_code for turn in range(4)]

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
