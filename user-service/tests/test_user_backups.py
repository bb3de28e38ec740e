"""The commands `backup`, `restore` and `after-restore` of the user service."""

import lzma
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, make_url, text

from chassis.database.backup import ID_GAP
from testkit import preloaded
from testkit.backups import all_rows
from testkit.users import KEY, log_in, migrations_of, sign_up
from user_service.models import Base
from user_service.settings import Settings

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command of the service on a database, in a folder of the test."""

    def run(url: str, *words: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
        environment = {**kept, "DATABASE_URL": url, "SECRET_KEY": KEY.decode()}
        return preloaded.run("user_service", words, tmp_path, environment)

    return run


async def test_a_restore_below_a_running_service_revokes_all_sessions(
    client: httpx.AsyncClient, database_url: str, run: Run
) -> None:
    ada, grace = await sign_up(client, "ada"), await sign_up(client, "grace")
    before = all_rows(database_url, Base.metadata)
    done = run(database_url, "backup", "users.backup")
    assert (done.returncode, done.stdout) == (0, "Wrote users.backup: 2 users, 2 known_networks.\n")
    assert "database backed up" in done.stderr
    assert (await client.request("DELETE", "/me", json={"current_password": "x"})).status_code == 401
    await sign_up(client, "mary")

    refused = run(database_url, "restore", "users.backup")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "restore: The database has rows (users, known_networks). --overwrite replaces them.\n"
    done = run(database_url, "restore", "users.backup", "--overwrite")
    assert (done.returncode, done.stdout) == (0, "Restored users.backup: 2 users, 2 known_networks.\n")
    assert "database restored" in done.stderr
    assert f"id_gap={ID_GAP}" in done.stderr

    assert all_rows(database_url, Base.metadata) == {**before, "sessions": [], "backups": []}
    for person in (ada, grace):
        assert (await client.get("/me", headers=person.headers)).status_code == 401
    assert (await sign_up(client, "mary")).user_id == 3 + ID_GAP + 1
    await log_in(client, ada.user_id, "ada")


async def test_after_restore_revokes_all_sessions(client: httpx.AsyncClient, database_url: str, run: Run) -> None:
    ada = await sign_up(client)
    assert run(database_url, "after-restore", "--id-gap", "10").returncode == 0
    assert (await client.get("/me", headers=ada.headers)).status_code == 401
    assert (await sign_up(client, "grace")).user_id == 12
    assert [row[0] for row in all_rows(database_url, Base.metadata)["sessions"]] == [12]


async def test_a_backup_contains_no_session(
    client: httpx.AsyncClient, database_url: str, run: Run, tmp_path: Path
) -> None:
    await sign_up(client)
    run(database_url, "backup", "users.backup")
    content = lzma.decompress((tmp_path / "users.backup").read_bytes()).decode()
    rows = all_rows(database_url, Base.metadata)
    assert rows["users"][0][3] in content  # The password hash.
    assert all(value not in content for value in rows["sessions"][0] if isinstance(value, str) and len(value) == 64)


def test_the_time_of_the_last_backup_is_stored(database_url: str, run: Run) -> None:
    for name in ("first", "second"):
        assert run(database_url, "backup", name).returncode == 0
    [(finished_at,)] = all_rows(database_url, Base.metadata)["backups"]
    assert timedelta() < datetime.now(UTC) - finished_at < timedelta(minutes=5)


@pytest.mark.alone
@pytest.mark.postgresql
def test_a_database_that_is_read_only_can_be_backed_up(
    database: Engine, database_url: str, run: Run, tmp_path: Path
) -> None:
    name = make_url(database_url).database
    with database.begin() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    done = run(database_url, "backup", "users.backup")
    assert (done.returncode, done.stdout) == (0, "Wrote users.backup: 0 users, 0 known_networks.\n")
    assert "the time of this backup can't be stored" in done.stderr
    assert "read-only transaction" in done.stderr


@pytest.mark.sqlite
def test_a_backup_of_a_missing_database_creates_none(run: Run, tmp_path: Path) -> None:
    done = run(f"sqlite:///{tmp_path}/missing/users.db", "backup", "users.backup")
    assert done.returncode == 1
    assert done.stderr.startswith("backup: there is no database at ")
    assert list(tmp_path.iterdir()) == []


def test_commands_report_what_is_wrong_in_one_line(empty_url: str, run: Run, tmp_path: Path) -> None:
    def check(message: str, *words: str, status: int = 1) -> None:
        done = run(empty_url, *words)
        assert (done.returncode, done.stdout) == (status, "")
        assert message in done.stderr.splitlines()[-1]

    check("restore: missing: No such file or directory", "restore", "missing")
    migrations_of(empty_url).upgrade()
    check(".partial: No such file or directory", "backup", "missing/users.backup")
    (tmp_path / "file").write_text("some text")
    check("backup: file exists. --overwrite replaces it.", "backup", "file")
    check("restore: file is damaged, incomplete or not a backup: ", "restore", "file")
    for number in ("-1", "1.5", "1" * 16):
        message = "argument --id-gap: must be a whole number of at most 15 digits"
        check(message, "restore", "file", f"--id-gap={number}", status=2)


@pytest.mark.alone
def test_a_restore_into_the_database_of_another_service_is_refused(
    database: Engine, database_url: str, run: Run
) -> None:
    run(database_url, "backup", "users.backup")
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'product_service_0001'"))
        connection.execute(text("UPDATE schema_compatibility SET floor = 'product_service_0001'"))
    done = run(database_url, "restore", "users.backup", "--overwrite")
    assert done.returncode == 1
    assert done.stderr.startswith("restore: the database is at revision product_service_0001, which this version ")
    assert done.stderr.count("\n") == 1
