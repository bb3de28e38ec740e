"""Both services on a replicated PostgreSQL whose primary is killed, and what they read from a replica.

The figures of the failover are printed. They are those of the settings in `testkit/replicated_postgresql.py`.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest

from chassis.database.url import normalise
from chassis.errors import DatabaseUnavailable
from testkit.library import Base, add_shelf, names, opened
from testkit.processes import Account, Service, Services, eventually, problem, running_services
from testkit.products import migrations_of
from testkit.replicated_postgresql import TTL, Node, ReplicatedPostgreSQL
from tests.failover.load import Load

DRAFT = {"name": "Lamp", "price": "19.99", "quantity": 3}
HAS_TABLES = "SELECT 1 FROM pg_tables WHERE tablename = 'backups'"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ReplicatedPostgreSQL]:
    with ReplicatedPostgreSQL() as cluster:
        yield cluster


@contextmanager
def services_on(cluster: ReplicatedPostgreSQL, folder: Path, **environment: str) -> Iterator[tuple[Services, Service]]:
    """Both services, and a second product service that reads a replica."""
    databases = [f"{folder.name}_{name}" for name in ("users", "products")]
    addresses = iter([cluster.new_database(name) for name in databases])
    with running_services(folder, lambda: next(addresses), **environment) as services, ExitStack() as cleanup:
        settings = {"USER_SERVICE_URL": services.users.url, "DATABASE_URL": services.products.database_url}
        replica = cluster.url(databases[1], "prefer-standby")
        with_replica = Service("product-service", folder / "replica", DATABASE_READ_URL=replica, **settings)
        cleanup.callback(with_replica.close)
        with_replica.start().wait_ready()
        yield services, with_replica


def test_a_failover_loses_no_acknowledged_write_and_accepts_no_revoked_token(
    cluster: ReplicatedPostgreSQL, tmp_path: Path
) -> None:
    with services_on(cluster, tmp_path) as (services, with_replica):
        load = Load(services, with_replica)
        with load.running():
            load.wait_for_successes(10)
            killed = time.monotonic()
            dead = cluster.kill_primary()
            cluster.wait_for_primary()
            promoted = time.monotonic() - killed
            load.wait_for_successes(20)
        stored = [sku for (sku,) in services.products.sql("SELECT sku FROM products WHERE sku IS NOT NULL")]
        ((quantity,),) = services.products.sql("SELECT quantity FROM products WHERE id = :id", id=load.product["id"])
        lost = set(load.created) - set(stored)
        accepted = [token for token in load.revoked if load.is_valid(token) is not False]
        rejected = [token for token in load.valid if load.is_valid(token) is not True]
        print(f"\nThe primary was killed; a new one accepted writes after {promoted:.1f} s (TTL {TTL} s).")
        print(*load.report(killed), sep="\n")
        print(
            f"{len(load.created)} new products and {load.stock} changes of stock were acknowledged: "
            f"{len(lost)} and {max(load.stock - quantity, 0)} lost"
        )
        print(
            f"{len(load.revoked)} tokens were revoked: {len(accepted) + len(load.accepted)} accepted; "
            f"{len(load.valid)} others: {len(rejected)} rejected"
        )
        assert not lost
        assert len(stored) == len(set(stored))
        # The last change may have been interrupted after its commit.
        assert load.stock <= quantity <= load.stock + 1
        assert not accepted + load.accepted
        assert not rejected
        # Reads go on with a replica. Without one, they wait for the new primary.
        assert not load.streams["replica"].failures
        assert load.streams["read"].failures
        dead.start()
        cluster.wait_for_replicas()


def test_a_client_reads_its_writes_while_the_replica_is_behind(cluster: ReplicatedPostgreSQL, tmp_path: Path) -> None:
    with services_on(cluster, tmp_path) as (services, with_replica):
        owner = services.sign_up()
        with with_replica.client() as client:
            with ExitStack() as paused:
                for replica in cluster.wait_for_replicas():
                    paused.enter_context(replica.replay_paused())
                created = client.post("/products", json=DRAFT, headers=owner.bearer)
                path = created.headers["location"]
                assert client.get(path, headers=owner.bearer).status_code == httpx.codes.OK
                assert len(client.get("/products", headers=owner.bearer).json()) == 1
                problem(client.get(path), 404, "product-not-found")
                assert client.get("/products").json() == []
            eventually(lambda: client.get(path).status_code == httpx.codes.OK)


def test_validations_and_writes_refuse_a_replica(cluster: ReplicatedPostgreSQL) -> None:
    cluster.new_database("refused")
    replica = cluster.wait_for_replicas()[0]
    eventually(lambda: has_database(replica, "refused"))
    with opened(normalise(replica.url("refused"))) as library:
        for use in (library.read(names), library.write(add_shelf("poems"))):
            with pytest.raises(DatabaseUnavailable):
                asyncio.run(use)


def test_a_standby_is_backed_up_and_is_not_restored_to(
    cluster: ReplicatedPostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cluster.new_database("backed_up")
    replicas = cluster.wait_for_replicas()
    # With several hosts, libpq gives up if the first that it asks has not heard of the database.
    eventually(lambda: all(has_database(each, "backed_up") for each in replicas))
    migrations_of(normalise(url)).upgrade()
    replica = replicas[0]
    eventually(lambda: replica.execute(HAS_TABLES, "backed_up"))
    monkeypatch.setenv("DATABASE_URL", replica.url("backed_up"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "product_service", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    written = run("backup", "products.backup")
    assert (written.returncode, written.stdout.count("\n")) == (0, 1), written.stderr
    for words in (["restore", "products.backup", "--overwrite"], ["after-restore"]):
        refused = run(*words)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"{words[0]}: the database is a standby or read-only: ")
        assert refused.stderr.count("\n") == 1


def has_database(node: Node, name: str) -> bool:
    return bool(node.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"))


def test_a_host_that_does_not_answer_holds_up_a_request_for_its_share_of_the_timeout(
    cluster: ReplicatedPostgreSQL,
) -> None:
    url = cluster.new_database("slow")
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        several = url.replace("@", f"@127.0.0.1:{silent.getsockname()[1]},", 1)
        with opened(normalise(several), pool_timeout=8) as library:
            Base.metadata.create_all(library._write_engine)
            started = time.monotonic()
            assert asyncio.run(library.read(names)) == []
            assert 1.5 < time.monotonic() - started < 8


def test_commands_use_the_primary_among_several_hosts(cluster: ReplicatedPostgreSQL, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": cluster.new_database("commands")}
    for command in (["migrate"], ["backup", str(tmp_path / "products.backup")]):
        subprocess.run([sys.executable, "-m", "product_service", *command], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "products.backup").stat().st_size


def acknowledged(services: Services, owner: Account) -> str:
    """Create a product, and return its path."""
    with services.products.client(headers=owner.bearer) as client:
        created = client.post("/products", json=DRAFT)
    assert created.status_code == httpx.codes.CREATED, created.text
    return str(created.headers["location"])


def test_without_a_synchronous_replica_no_write_is_acknowledged(cluster: ReplicatedPostgreSQL, tmp_path: Path) -> None:
    with services_on(cluster, tmp_path, DATABASE_TIMEOUT="3") as (services, _), ExitStack() as cut_off:
        owner = services.sign_up()
        for replica in cluster.wait_for_replicas():
            cut_off.enter_context(replica.cut_off())
        with services.products.client(headers=owner.bearer) as client:
            problem(client.post("/products", json=DRAFT), 503, "outcome-unknown")
            assert client.get("/products").json() == []
            cut_off.close()
            eventually(lambda: len(client.get("/products").json()) == 1)


def test_asynchronous_replication_loses_an_acknowledged_write(tmp_path: Path) -> None:
    # The fault that the other tests would find.
    with ReplicatedPostgreSQL(nodes=2, synchronous=False) as cluster, ExitStack() as cut_off:
        addresses = iter([cluster.new_database(name) for name in ("users", "products")])
        with running_services(tmp_path, lambda: next(addresses)) as services:
            owner = services.sign_up()
            kept = acknowledged(services, owner)
            (replica,) = cluster.wait_for_replicas()
            eventually(lambda: replica.execute("SELECT name FROM products", "products"))
            cut_off.enter_context(replica.cut_off())
            lost = acknowledged(services, owner)
            cluster.kill_primary()
            cut_off.close()
            cluster.wait_for_primary()
            with services.products.client() as client:
                eventually(lambda: client.get(kept).status_code == httpx.codes.OK)
                problem(client.get(lost), 404, "product-not-found")
