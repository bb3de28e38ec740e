"""A running service whose database a newer version migrates: the present code, and one more migration."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import MetaData

import user_service
from chassis.database.migrations import Migrations
from testkit import preloaded
from testkit.databases import Databases
from testkit.processes import Service, eventually, problem
from testkit.users import migrations_of
from tests.streams import Stream

FOLDER = Path(user_service.__file__).parent / "migrations"
REVISION = "user_service_9999"
HEAD = migrations_of("sqlite:///unused.db").head
MIGRATION = '''"""One that takes as long as the test wants."""

import time
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{head}"
{floor}


def upgrade() -> None:
    folder = Path(__file__).parent
    (folder / "begun").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    op.add_column("users", sa.Column("later", sa.Text(), nullable=False, server_default="new"))


def downgrade() -> None:
    op.drop_column("users", "later")
'''
ADA = {"username": "ada", "password": "correct horse battery staple"}


class Newer:
    """The migrations of the next version; `finish` lets them end."""

    def __init__(self, folder: Path, url: str, floor: str) -> None:
        self.folder = folder / "user_service" / "migrations"
        shutil.copytree(FOLDER, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        source = MIGRATION.format(revision=REVISION, head=HEAD, floor=floor)
        (self.folder / "user_service_9999_later.py").write_text(source, encoding="utf-8")
        self.migrations = Migrations(self.folder, MetaData(), url)

    def has_begun(self) -> bool:
        return (self.folder / "begun").exists()

    def finish(self) -> None:
        (self.folder / "go").touch()


@pytest.fixture
def service(databases: Databases, tmp_path: Path) -> Iterator[Service]:
    """The user service, ready."""
    with databases.made() as make:
        service = Service("user-service", tmp_path / "service", DATABASE_URL=make(None))
        try:
            yield service.start().wait_ready()
        finally:
            service.close()


def command(service: Service, *words: str) -> tuple[int, str]:
    """Run a command of the service; returns its status and its output."""
    ended = preloaded.run(service.module, words, service.folder, service.environment)
    return ended.returncode, ended.stdout + ended.stderr


def read(client: httpx.Client, _: str) -> httpx.Response:
    ready = client.get("/health/ready")
    return client.get("/me") if ready.is_success else ready


def test_a_service_stays_ready_serves_and_restarts_while_a_newer_version_migrates(
    service: Service, tmp_path: Path
) -> None:
    newer = Newer(tmp_path / "newer", service.database_url, floor="")
    with service.client() as client:
        assert client.post("/register", json=ADA).status_code == 201
        token = client.post("/login", json=ADA).json()["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        with ThreadPoolExecutor() as threads:
            migrating = threads.submit(newer.migrations.upgrade)
            try:
                eventually(newer.has_begun, what="the migration runs")
                service.restart()
                with Stream(service, read, headers=bearer) as reads:
                    reads.flows(5, status=200)
                    assert not migrating.done()
                    newer.finish()
                    assert migrating.result()
                    reads.flows(5, status=200)
            finally:
                newer.finish()
        assert set(reads.counts) == {200}
        assert client.post("/register", json={**ADA, "username": "bob"}).status_code == 201
        line = service.wait_for_log_line("database is newer than this version, and supports it")
        assert (line["revision"], line["head"]) == (REVISION, HEAD)
        lines = len(service.log_lines)
        service.restart()
        assert client.post("/login", json=ADA).status_code == 200
        newer_lines = [each for each in service.log_lines[lines:] if each["message"].startswith("database is newer")]
        assert len(newer_lines) == 1

    status, output = command(service, "migrate")
    assert (status, "database is newer than this version" in output) == (0, True)
    assert command(service, "promote", "ada")[0] == 0
    assert service.sql("SELECT later FROM users WHERE is_admin") == [("new",)]
    assert service.sql("SELECT version_num FROM alembic_version") == [(REVISION,)]


def test_a_service_is_unready_and_refuses_to_start_after_a_contracting_migration(
    service: Service, tmp_path: Path
) -> None:
    newer = Newer(tmp_path / "newer", service.database_url, floor=f'floor = "{REVISION}"')
    newer.finish()
    newer.migrations.upgrade()
    with service.client() as client:
        problem(client.get("/health/ready"), 503, "migrations-ahead")
    service.stop()
    lines = len(service.log.splitlines())
    assert service.start().wait_ended(30) == 2
    [line] = service.log.splitlines()[lines:]
    assert line.startswith(f"cannot start: the database is at revision {REVISION}, which this version does not know")
    assert command(service, "migrate") == (2, line + "\n")
    status, output = command(service, "promote", "ada")
    assert (status, "no longer supports this one" in output) == (1, True)
    assert service.sql("SELECT version_num FROM alembic_version") == [(REVISION,)]
