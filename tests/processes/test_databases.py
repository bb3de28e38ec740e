"""Databases of running services: lost and restored connections, missing migrations, other versions and services."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from product_service import composition
from product_service.settings import Settings
from testkit.databases import POSTGRESQL, Databases
from testkit.postgresql import Server
from testkit.processes import Services, eventually, problem, running_services, services_in
from tests.streams import Stream, assert_kept, create, names_of_products


@pytest.fixture
def stopped(databases: Databases, tmp_path: Path) -> Iterator[Services]:
    """Both services on empty databases, not started."""
    with databases.made() as make, services_in(tmp_path, lambda: make(None)) as services:
        yield services


@pytest.fixture
def server(backend: str) -> Iterator[Server]:
    """A PostgreSQL server that the test may restart."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def on_server(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """Both services, each with a database on that server."""
    monkeypatch.setenv("TEST_POSTGRES_URL", server.url)
    databases = Databases(POSTGRESQL, tmp_path)
    with databases.made() as make, running_services(tmp_path, lambda: make(None)) as services:
        yield services


def migrate(url: str) -> None:
    """Migrate a database to the schema of the product service."""
    composition.migrations(Settings.model_construct(database_url=url)).upgrade()


def read(client: httpx.Client, _: str) -> httpx.Response:
    return client.get("/products?limit=5")


@pytest.mark.postgresql
def test_a_cut_connection_costs_at_most_one_503(services_on_both: Services) -> None:
    services = services_on_both
    owner = services.sign_up()
    before = (services.users.pid, services.products.pid)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
    database = make_url(services.products.database_url).database
    rounds, clients = 5, 4
    with (
        Stream(services.products, create, clients, prefix="cut", headers=owner.bearer) as writes,
        Stream(services.products, read, clients) as reads,
    ):
        for _ in range(rounds):
            writes.flows(10)
            reads.flows(10, status=200)
            services.products.sql(cut, name=database)
        writes.flows(20)
        reads.flows(20, status=200)
    assert set(reads.counts) <= {200, 503}
    assert set(writes.counts) <= {201, 503}
    assert reads.counts[503] <= rounds * clients
    assert writes.counts[503] <= rounds * clients
    assert_kept(writes, names_of_products(services, "cut"))
    with services.products.client(headers=owner.bearer) as client:
        for number in range(20):  # As many as both pools have connections.
            assert create(client, f"afterwards-{number}").status_code == 201
            assert read(client, "").status_code == 200
    assert (services.users.pid, services.products.pid) == before
    assert services.users.is_running
    assert services.products.is_running


@pytest.mark.postgresql
def test_services_recover_from_a_restart_of_the_server_and_lose_nothing(on_server: Services, server: Server) -> None:
    services = on_server
    owner = services.sign_up()
    before = (services.users.pid, services.products.pid)
    with (
        Stream(services.products, create, prefix="restart", headers=owner.bearer) as writes,
        Stream(services.products, read) as reads,
    ):
        writes.flows(20)
        for immediately in (False, True):
            server.restart(immediately=immediately)
            writes.flows(20)
            reads.flows(20, status=200)
    assert set(reads.counts) <= {200, 503}
    assert set(writes.counts) <= {201, 503}
    assert_kept(writes, names_of_products(services, "restart"))
    # No requests come meanwhile, so all pooled connections are dead. Clients don't notice that either.
    server.restart()
    with Stream(services.products, create, clients=8, prefix="after", headers=owner.bearer) as writes:
        writes.flows(20)
    assert set(writes.counts) == {201}
    services.log_in(owner.username, owner.password)
    assert (services.users.pid, services.products.pid) == before
    assert services.users.is_running
    assert services.products.is_running


def test_a_service_is_ready_once_its_database_is_migrated(stopped: Services) -> None:
    service = stopped.products
    service.environment["MIGRATE_ON_START"] = "false"
    service.start()
    eventually(lambda: "Uvicorn running on" in service.log, 30, "the service listens")
    with service.client() as client:
        behind = client.get("/health/ready")
        problem(behind, 503, "migrations-behind")
        assert int(behind.headers["retry-after"]) >= 1
        assert client.get("/health/live").status_code == 200
        problem(client.get("/products"), 503, "database-unavailable")
        migrate(service.database_url)  # Like an operator, while the service runs.
        assert client.get("/health/ready").status_code == 200
        assert client.get("/products").json() == []


def test_a_service_rejects_the_database_of_the_other(stopped: Services) -> None:
    migrate(stopped.users.database_url)
    assert stopped.users.start().wait_ended(30) == 2
    (line,) = stopped.users.log.splitlines()
    assert line.startswith("cannot start: ")
    assert "another service" in line
    [[revision]] = stopped.users.sql("SELECT version_num FROM alembic_version")
    assert revision.startswith("product_service_")
