"""Older code on a newer database: `chassis.database.compatibility` and what `Migrations` makes of the floor."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chassis.database import compatibility
from chassis.database.migrations import Migrations, SchemaState
from chassis.database.refusals import MigrationRefused
from chassis.http import health
from testkit.applications import running
from testkit.library import connection_to, logged, make_app, opened, rows
from testkit.library_migrations import CONTRACTING, FIRST, SECOND, make_migrations

THIRD = '''"""Books have a year."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("books", sa.Column("year", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("books", "year")
'''
REVISION = "SELECT version_num FROM alembic_version"
FLOOR = "SELECT floor FROM schema_compatibility"


@pytest.fixture
def older(tmp_path: Path, empty_url: str) -> Migrations:
    """The version before SECOND."""
    return make_migrations(tmp_path / "old", empty_url, [FIRST])


@pytest.fixture(autouse=True)
def nothing_reported() -> Iterator[None]:
    compatibility.report_newer.cache_clear()
    yield
    compatibility.report_newer.cache_clear()


@pytest.mark.parametrize(
    ("migrations", "floors"),
    [
        ([FIRST, SECOND, THIRD], ["0001", "0001", "0001"]),
        ([FIRST, CONTRACTING, THIRD], ["0001", "0002", "0002"]),
        # The code before SECOND still runs after it, so the floor may be older than the migration that names it.
        ([FIRST, CONTRACTING.replace('floor = "0002"', 'floor = "0001"'), THIRD], ["0001", "0001", "0001"]),
        # A floor is never lowered.
        ([FIRST, CONTRACTING, THIRD + 'floor = "0001"\n'], ["0001", "0002", "0002"]),
    ],
    ids=["expanding", "contracting", "keeping its predecessor", "not lowered"],
)
def test_the_floor_is_the_latest_that_a_migration_names(
    tmp_path: Path, empty_url: str, migrations: list[str], floors: list[str]
) -> None:
    newest = make_migrations(tmp_path, empty_url, migrations)
    for revision, floor in zip(("0001", "0002", "0003"), floors, strict=True):
        newest.upgrade(revision)
        assert rows(empty_url, FLOOR) == [(floor,)]
    for revision, floor in zip(("0002", "0001"), floors[1::-1], strict=True):
        newest.downgrade(revision)
        assert rows(empty_url, FLOOR) == [(floor,)]


def test_a_floor_that_is_no_revision_fails(tmp_path: Path, empty_url: str) -> None:
    unknown = CONTRACTING.replace('floor = "0002"', 'floor = "2"')
    with pytest.raises(ValueError, match="'2'"):
        make_migrations(tmp_path, empty_url, [FIRST, unknown]).upgrade()


async def readiness_of(migrations: Migrations, url: str) -> httpx.Response:
    with opened(url, pool_size=2, pool_timeout=0.5) as database:
        async with running(make_app(health.router(health.Readiness(database, migrations)))) as client:
            return await client.get("/health/ready")


async def test_older_code_can_use_a_database_that_was_expanded(
    tmp_path: Path, empty_url: str, older: Migrations
) -> None:
    older.upgrade()
    make_migrations(tmp_path / "new", empty_url).upgrade()
    with logged() as log:
        assert not older.upgrade()
        assert not older.upgrade(dry_run=True)
        older.require_current()
        assert (await readiness_of(older, empty_url)).status_code == 200
    # One line in each process, whatever it does.
    [line] = [line for line in log.lines if line["message"].startswith("database is newer")]
    assert (line["revision"], line["floor"], line["head"]) == ("0002", "0001", "0001")
    assert rows(empty_url, REVISION) == [("0002",)]
    with pytest.raises(MigrationRefused, match="newer than this version"):
        older.write_revision("From an outdated working copy")


async def test_older_code_refuses_a_database_that_was_contracted(
    tmp_path: Path, empty_url: str, older: Migrations
) -> None:
    make_migrations(tmp_path / "new", empty_url, [FIRST, CONTRACTING]).upgrade()
    expected = "^the database is at revision 0002, which this version does not know: [^\n]+ no longer supports this one"
    for attempt in (older.upgrade, lambda: older.upgrade(dry_run=True), older.require_current):
        with pytest.raises(MigrationRefused, match=expected):
            attempt()
    answer = await readiness_of(older, empty_url)
    assert (answer.status_code, answer.json()["code"]) == (503, "migrations-ahead")
    assert answer.headers["retry-after"] == "2"
    assert rows(empty_url, REVISION) == [("0002",)]


@pytest.mark.parametrize("floor", ["another_service_0001", None])
async def test_an_unknown_floor_is_refused(
    tmp_path: Path, empty_url: str, older: Migrations, floor: str | None
) -> None:
    make_migrations(tmp_path / "new", empty_url).upgrade()
    with connection_to(empty_url) as connection:
        connection.exec_driver_sql(
            f"UPDATE schema_compatibility SET floor = '{floor}'" if floor else f"DROP TABLE {compatibility.TABLE_NAME}"
        )
    with pytest.raises(MigrationRefused, match="or belongs to another service"):
        older.upgrade()
    with opened(empty_url) as database:
        assert await database.inspect(older.state) is SchemaState.TOO_NEW


def test_a_process_can_start_while_another_one_migrates(
    tmp_path: Path, empty_url: str, older: Migrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    older.upgrade()
    monkeypatch.setattr("chassis.database.migrations._LOCK_TIMEOUT", 0.2)
    newer = make_migrations(tmp_path / "new", empty_url)
    with newer.locked() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
        assert not make_migrations(tmp_path / "old", empty_url, [FIRST]).upgrade()
        older.require_current()
        with pytest.raises(MigrationRefused, match=r"locked|lock timeout"):
            newer.upgrade()
