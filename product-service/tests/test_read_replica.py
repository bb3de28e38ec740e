"""`DATABASE_READ_URL`: which requests read the replica, and what happens without it.

Another database plays the replica, so that tests see which of the two answers. tests/failover has real replicas.
"""

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import NullPool, create_engine, make_url

from chassis.database import replica
from chassis.database.url import as_text
from product_service.main import create_app
from testkit.applications import running
from testkit.databases import MigrationsOf, NewDatabase
from testkit.library import connection_to, logged, role_without_permissions
from testkit.processes import free_port
from testkit.products import MakeSettings, bearer, create, product, store
from testkit.user_service_stub import ADA

DATABASE_URL = "postgresql://ada@db.example/products?sslmode=require"
ANONYMOUS: dict[str, str] = {}


@pytest.mark.postgresql
async def test_only_reads_without_a_token_use_the_replica(
    make_settings: MakeSettings, new_database: NewDatabase, migrations_of: MigrationsOf
) -> None:
    replica_url = new_database(migrations_of)
    engine = create_engine(replica_url, poolclass=NullPool)
    store(engine, [product(name="Old lamp")])
    async with running(create_app(make_settings(database_read_url=replica_url))) as client:
        path = f"/products/{(await create(client, name='New lamp'))['id']}"

        async def names(headers: dict[str, str]) -> list[Any]:
            listed, shown = await client.get("/products", headers=headers), await client.get(path, headers=headers)
            return [*(each["name"] for each in listed.json()), shown.json()["name"]]

        assert await names(ANONYMOUS) == ["Old lamp"] * 2
        # Even one that does not authenticate: it is not validated for a public read.
        for headers in (bearer(ADA), {"authorization": "Basic eDp5"}, {"Authorization": ""}):
            assert await names(headers) == ["New lamp"] * 2
        changed = await client.patch(path, json={"quantity": 9}, headers=bearer(ADA))
        assert (changed.status_code, changed.json()["name"]) == (200, "New lamp")
        # A tag of an older version never overwrites a newer one.
        old = await client.get(path)
        refused = await client.patch(
            path, json={"quantity": 1}, headers={**bearer(ADA), "If-Match": old.headers["etag"]}
        )
        assert refused.status_code == 412
        history = await client.get(f"{path}/history", headers=bearer(ADA))
        assert len(history.json()) == 2


@pytest.mark.postgresql
@pytest.mark.parametrize("product_id", [1, 2])  # The answer of a replica may also be that there is no such product.
async def test_without_the_replica_the_primary_answers_until_it_is_back(
    make_settings: MakeSettings, database_url: str, monkeypatch: pytest.MonkeyPatch, product_id: int
) -> None:
    closed = as_text(make_url(database_url).set(port=free_port()))
    app = create_app(make_settings(database_read_url=closed))
    reader = app.state.services._replica
    async with running(app) as client:
        product = await create(client)
        answer = (200, product["name"]) if product_id == product["id"] else (404, None)

        async def shown() -> tuple[int, str | None]:
            response = await client.get(f"/products/{product_id}")
            return response.status_code, response.json().get("name")

        with logged() as log:
            for _ in range(3):
                assert await shown() == answer
            # It is not tried again before some time has passed, and a lasting outage is one line.
            assert [line["message"] for line in log.lines if line["level"] == "warning"] == [
                "database unavailable",
                "reading from the primary, because the replica is busy or unavailable",
            ]
        monkeypatch.setattr(replica, "RETRY_INTERVAL", 0.0)
        reader._next_attempt = 0.0
        reader._replica._read_engine.dispose()
        reader._replica._read_engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
        with logged() as log:
            for _ in range(2):
                assert await shown() == answer
            assert [line["message"] for line in log.lines] == ["reading from the replica again", "request", "request"]


@pytest.mark.postgresql
async def test_a_replica_that_permits_no_reads_is_replaced(
    make_settings: MakeSettings, new_database: NewDatabase, migrations_of: MigrationsOf
) -> None:
    replica_url = new_database(migrations_of)
    with role_without_permissions(replica_url) as reader:
        async with running(create_app(make_settings(database_read_url=reader))) as client:
            product = await create(client)
            assert (await client.get("/products")).json() == [product]


@pytest.mark.postgresql
async def test_a_replica_that_holds_up_reads_is_replaced(
    make_settings: MakeSettings, new_database: NewDatabase, migrations_of: MigrationsOf
) -> None:
    replica_url = new_database(migrations_of)
    app = create_app(make_settings(database_read_url=replica_url, database_pool_timeout=1))
    async with running(app) as client:
        product = await create(client)
        with connection_to(replica_url) as other:
            # As a replayed migration may.
            other.exec_driver_sql("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
            # More than there are connections: some wait for one, and the others for the lock.
            answers = await asyncio.gather(*(client.get("/products") for _ in range(15)))
        assert [(each.status_code, each.json()) for each in answers] == [(200, [product])] * 15


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:///file.db", "must be a PostgreSQL"),
        ("postgresql://ada@h1,h2/products?target_session_attrs=read-write", "must lead to a replica"),
        ("nonsense", "must be like"),
    ],
)
def test_an_unusable_replica_is_rejected(make_settings: MakeSettings, url: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        make_settings(database_read_url=url, database_url=DATABASE_URL)


def test_a_replica_of_sqlite_is_rejected(make_settings: MakeSettings) -> None:
    with pytest.raises(ValidationError, match="DATABASE_READ_URL needs a DATABASE_URL of PostgreSQL"):
        make_settings(database_read_url=DATABASE_URL, database_url="sqlite:///file.db")


def test_the_password_is_for_the_replica_as_well(make_settings: MakeSettings) -> None:
    settings = make_settings(database_read_url=DATABASE_URL, database_url=DATABASE_URL, database_password="p@ss")
    assert make_url(settings.database_read_url).password == "p@ss"
    assert "p@ss" not in repr(settings)


def test_an_unencrypted_replica_on_another_host_is_a_risk(make_settings: MakeSettings) -> None:
    settings = make_settings(database_read_url="postgresql://ada@h1,h2/products", database_url=DATABASE_URL)
    settings = settings.model_copy(update={"environment": "production"})
    assert [risk for risk in settings.risky() if "DATABASE" in risk] == [
        "DATABASE_READ_URL has no sslmode that demands TLS. The connection to the database may be unencrypted"
    ]
