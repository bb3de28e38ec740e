"""Backups of the product service: what they contain, and what a restore refuses."""

import asyncio
import lzma
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, Engine, MetaData, NullPool, Table, create_engine, make_url, text

from chassis.database import backup
from chassis.database.backup import BackupRefused, Backups
from chassis.database.migrations import OWN_TABLES, Migrations
from product_service import migrations
from product_service.main import create_app
from product_service.models import Base
from product_service.settings import Settings
from testkit import preloaded
from testkit.applications import running
from testkit.backups import all_rows, other_databases
from testkit.databases import NewDatabase
from testkit.many_rows import FEWEST, fill_products
from testkit.processes import eventually
from testkit.product_list import catalogue
from testkit.products import MakeSettings, bearer, create, migrations_of, store
from testkit.user_service_stub import ADA

GAP = 1000


def backups_of(url: str) -> Backups:
    return Backups("product-service", url, migrations_of(url))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "products.backup"


@pytest.fixture(params=["same", "other"])
def target(
    request: pytest.FixtureRequest, backend: str, tmp_path: Path, new_database: NewDatabase
) -> Iterator[NewDatabase]:
    """Makes the databases to restore into, on the same and on the other database system."""
    if request.param == "same":
        yield new_database
    else:
        with other_databases(backend, tmp_path) as new_other:
            yield new_other


@pytest.fixture
async def stored(client: httpx.AsyncClient, database: Engine, database_url: str) -> dict[str, Any]:
    """Rows of all tables, with unusual values, and a table whose newest rows have been deleted; all rows."""
    await create(client, name="Łódź 灯 🪔 'q\" \\ {a,b}", description="Line 1\nLine 2\t\u200d%", sku='"A",\\')
    await create(client, price="9999999999.99", quantity=0, category="Zürich")
    draft = {"name": "Cup", "price": "1", "quantity": 1}
    answer = await client.post("/products", json=draft, headers={**bearer(ADA), "Idempotency-Key": "1"})
    assert answer.status_code == 201
    patched = await client.patch("/products/1", json={"description": None, "price": "2.50"}, headers=bearer(ADA))
    assert patched.status_code == 200
    gone = await create(client)
    assert (await client.delete(f"/products/{gone['id']}", headers=bearer(ADA))).status_code == 204
    with database.begin() as connection:
        connection.execute(text("UPDATE changes SET reason = 'null' WHERE id = 1"))
    rows = all_rows(database_url, Base.metadata)
    assert {name: len(each) for name, each in rows.items()} == {
        "backups": 0,
        "changes": 6,
        "idempotency_records": 1,
        "products": 3,
    }
    return rows


def nulls(url: str) -> int:
    """The number of changes without a former state. The model shows the JSON value `null` as the same."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM changes WHERE before IS NULL")) or 0


async def test_a_restore_has_every_row_on_either_database(
    stored: dict[str, Any], database_url: str, file: Path, target: NewDatabase, make_settings: MakeSettings
) -> None:
    written = backups_of(database_url).write(file, overwrite=False)
    new = target(None)
    _, restored = backups_of(new).restore(file, overwrite=False, id_gap=GAP)
    assert all_rows(new, Base.metadata) == stored
    assert nulls(new) == nulls(database_url) == 4
    assert dict(written) == dict(restored) == {"changes": 6, "idempotency_records": 1, "products": 3}
    assert migrations_of(new).differences() == []

    async with running(create_app(make_settings(database_url=new))) as client:
        for search, found in (("łódź", 1), ("cup", 3), ("lamp", 2)):
            answer = await client.get("/products", params={"q": search})
            assert [each["id"] for each in answer.json()] == [found]
        # The fourth product had been deleted before the backup.
        assert (await create(client))["id"] == 4 + GAP + 1
        assert (await client.get("/products", params={"q": "lamp", "sort": "id"})).json()[-1]["id"] == 1005


async def test_a_restore_that_overwrites_reuses_no_id_of_the_database(
    stored: dict[str, Any], client: httpx.AsyncClient, database_url: str, file: Path
) -> None:
    backups = backups_of(database_url)
    backups.write(file, overwrite=False)
    for _ in range(3):
        await create(client)
    with pytest.raises(BackupRefused, match=r"^The database has rows \(changes, idempotency_records, products\)"):
        backups.restore(file, overwrite=False)
    backups.restore(file, overwrite=True, id_gap=0)
    assert all_rows(database_url, Base.metadata) == stored
    assert (await create(client))["id"] == 8
    assert [each["id"] for each in (await client.get("/products?q=lamp")).json()] == [2, 8]


def test_a_backup_is_private_and_is_not_overwritten(database_url: str, file: Path) -> None:
    backups = backups_of(database_url)
    backups.write(file, overwrite=False)
    assert file.stat().st_mode & 0o777 == 0o600
    first = file.read_bytes()
    with pytest.raises(BackupRefused, match="exists"):
        backups.write(file, overwrite=False)
    assert file.read_bytes() == first
    file.chmod(0o644)
    backups.write(file, overwrite=True)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes() != first
    assert list(file.parent.iterdir()) == [file]


async def test_a_backup_is_one_moment_of_the_database(
    stored: dict[str, Any],
    client: httpx.AsyncClient,
    database_url: str,
    file: Path,
    empty_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    reflect = backup._reflect
    created = []

    def change_then_reflect(connection: Connection, name: str) -> Table:
        """Before each table is read, create a product, with its history, and wait for the response."""
        created.append(asyncio.run_coroutine_threadsafe(create(client), loop).result(60))
        return reflect(connection, name)

    monkeypatch.setattr(backup, "_reflect", change_then_reflect)
    await asyncio.to_thread(backups_of(database_url).write, file, overwrite=False)
    monkeypatch.undo()
    assert len(created) == 3
    backups_of(empty_url).restore(file, overwrite=False)
    assert all_rows(empty_url, Base.metadata) == stored


def environment(url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    return {**kept, "DATABASE_URL": url}


def command(folder: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run("product_service", words, folder, environment(url))


def is_loading(url: str) -> bool:
    """Whether a restore has written some rows."""
    if url.startswith("sqlite"):
        journal = Path(f"{url.removeprefix('sqlite:///')}-journal")
        return journal.exists() and journal.stat().st_size > 0
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        query = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'INSERT INTO products%'"
        )
        return connection.scalar(text(query)) is not None


@pytest.mark.alone
def test_kill_9_leaves_neither_half_a_backup_nor_half_a_database(
    database: Engine, database_url: str, file: Path, tmp_path: Path, new_database: NewDatabase
) -> None:
    fill_products(database.execution_options(isolation_level="AUTOCOMMIT"), FEWEST)
    log = tmp_path / "log"
    words = ["backup", str(file)]
    killed = preloaded.start("product_service", words, tmp_path, environment(database_url), log)
    eventually(lambda: any(file.parent.iterdir()))
    killed.kill()
    killed.join()
    [partial] = file.parent.iterdir()
    assert partial.name.endswith(".partial")
    done = command(tmp_path, database_url, *words)
    assert (done.returncode, done.stdout) == (
        0,
        f"Wrote {file}: {FEWEST} changes, 0 idempotency_records, {FEWEST} products.\n",
    )
    assert len(all_rows(database_url, Base.metadata)["backups"]) == 1

    new = new_database(None)
    words = ["restore", str(file)]
    killed = preloaded.start("product_service", words, tmp_path, environment(new), log)
    eventually(lambda: is_loading(new))
    killed.kill()
    killed.join()
    with migrations_of(new).locked() as connection:
        assert migrations_of(new).revision(connection) is None
    done = command(tmp_path, new, *words)
    counts = f"{FEWEST} changes, 0 idempotency_records, {FEWEST} products"
    assert (done.returncode, done.stdout) == (0, f"Restored {file}: {counts}.\n")
    assert "database restored" in done.stderr


def test_a_damaged_file_is_refused(database: Engine, database_url: str, file: Path, empty_url: str) -> None:
    store(database, catalogue())
    backups_of(database_url).write(file, overwrite=False)
    whole = file.read_bytes()
    damaged = file.with_name("damaged.backup")
    changes = [bytes([*whole[:at], whole[at] ^ 1, *whole[at + 1 :]]) for at in range(0, len(whole), 61)]
    changes += [whole[:length] for length in (0, 1, len(whole) // 2, len(whole) - 1)]
    changes += [whole + added for added in (b"x", b"\0" * 2**21, whole)]
    for content in changes:
        damaged.write_bytes(content)
        with pytest.raises(BackupRefused, match="is damaged, incomplete or not a backup"):
            backups_of(empty_url).restore(damaged, overwrite=False)
    with migrations_of(empty_url).locked() as connection:
        assert migrations_of(empty_url).revision(connection) is None
    backups_of(empty_url).restore(file, overwrite=False)


@pytest.mark.parametrize(
    ("part", "replacement", "message"),
    [
        (b'"service":"product-service"', b'"service":"user-service"', "is a backup of user-service, not of product-"),
        (b'"revision":"product_service_0', b'"revision":"product_service_9', "is a backup of a newer version"),
        (b'"format":1', b'"format":2', "is a backup of a newer version"),
        (b'"format":1', b'"format":2,"new":1', "is not a backup, or of a newer version"),
        (b"{", b"[", "is not a backup, or of a newer version"),
    ],
)
def test_a_file_that_is_no_backup_of_this_version_is_refused(
    database_url: str, file: Path, part: bytes, replacement: bytes, message: str
) -> None:
    backups = backups_of(database_url)
    backups.write(file, overwrite=False)
    content = lzma.decompress(file.read_bytes())
    assert part in content
    file.write_bytes(lzma.compress(content.replace(part, replacement)))
    with pytest.raises(BackupRefused, match=message):
        backups.restore(file, overwrite=False)


LOCKED = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE :query"


@pytest.fixture
def own_url(new_database: NewDatabase) -> str:
    """A database whose schema and settings a test may change."""
    return new_database(migrations_of)


def is_waiting(url: str, query: str) -> bool:
    """Whether a statement waits for a lock."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE :query")
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return bool(connection.scalar(waiting, {"query": query}))


@pytest.mark.postgresql
def test_a_migration_waits_for_a_backup_without_keeping_requests_waiting(own_url: str) -> None:
    def migrate() -> None:
        with migrations_of(own_url).locked() as connection:
            connection.execute(text("ALTER TABLE products ADD COLUMN colour text"))

    with ThreadPoolExecutor(1) as thread:
        with backups_of(own_url)._snapshot():
            migrating = thread.submit(migrate)
            eventually(lambda: is_waiting(own_url, "%advisory%"))
            with create_engine(own_url, poolclass=NullPool).connect() as reader:
                reader.execute(text("SET lock_timeout = '1s'"))
                assert reader.scalar(text("SELECT count(*) FROM products")) == 0
            assert not migrating.done()
        migrating.result(60)


@pytest.mark.postgresql
def test_a_restore_survives_a_deadlock_with_a_writer(own_url: str, file: Path) -> None:
    engine = create_engine(own_url, poolclass=NullPool)
    store(engine, catalogue())
    backups_of(own_url).write(file, overwrite=False)
    stored = all_rows(own_url, Base.metadata)["products"]
    with engine.begin() as connection:
        # The restore looks for a deadlock before the writer does, and is the one that is ended.
        connection.execute(text(f"ALTER DATABASE {make_url(own_url).database} SET deadlock_timeout = '3s'"))
    with ThreadPoolExecutor(1) as thread, engine.connect() as writer:
        writer.execute(text("SET LOCAL deadlock_timeout = '60s'"))
        writer.execute(text("UPDATE products SET quantity = 9"))
        restoring = thread.submit(backups_of(own_url).restore, file, overwrite=True)
        eventually(lambda: is_waiting(own_url, "LOCK TABLE%"))
        writer.execute(text("DELETE FROM changes"))
        writer.commit()
        restoring.result(60)
    assert all_rows(own_url, Base.metadata)["products"] == stored


LAMP = """
INSERT INTO products (name, price, currency, quantity, owner_id, version, created_at, updated_at)
VALUES ('Brass lamp', 199900, 'USD', 1, 7, 1, '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000')
"""


RECORD = """
INSERT INTO idempotency_records (caller_id, "key", operation, fingerprint, created_at, body)
VALUES (1, '1', 'create', '', '2026-01-01 00:00:00.000000', '')
"""


async def test_a_backup_of_an_older_version_is_migrated(
    new_database: NewDatabase, file: Path, tmp_path: Path, make_settings: MakeSettings
) -> None:
    folder = tmp_path / "product_service" / "migrations"
    folder.mkdir(parents=True)
    for script in Path(migrations.__file__).parent.glob("product_service_000[123]_*.py"):
        shutil.copy(script, folder)
    url, metadata = new_database(None), MetaData()
    old = Migrations(folder, metadata, url)
    old.upgrade()
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(LAMP))
        metadata.reflect(connection, only=lambda name, _: name not in (*OWN_TABLES, "sqlite_sequence"))
    Backups("product-service", url, old).write(file, overwrite=False)

    fresh, filled = new_database(None), new_database(migrations_of)
    with create_engine(filled, poolclass=NullPool).begin() as connection:
        connection.execute(text(RECORD))
    for new in (fresh, filled):
        header, rows = backups_of(new).restore(file, overwrite=new is filled, id_gap=0)
        assert header.revision == old.head == "product_service_0003"
        assert rows["products"] == 1
        assert migrations_of(new).differences() == []
        async with running(create_app(make_settings(database_url=new))) as client:
            [found] = (await client.get("/products?q=brass")).json()
            assert (found["name"], found["price"], found["owner_id"]) == ("Brass lamp", "19.99", 7)
            assert (await create(client))["id"] == 2
    # The table was dropped and created again.
    with create_engine(filled, poolclass=NullPool).begin() as connection:
        assert connection.scalar(text(f"{RECORD} RETURNING id")) == 2


@pytest.mark.alone
def test_a_database_at_another_revision_is_neither_backed_up_nor_overwritten(database_url: str, file: Path) -> None:
    backups = backups_of(database_url)
    backups.write(file, overwrite=False)
    migrations_of(database_url).downgrade("product_service_0008")
    with pytest.raises(BackupRefused, match="is at revision product_service_0008, and this "):
        backups.restore(file, overwrite=True)
