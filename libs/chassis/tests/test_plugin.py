"""`testkit.plugin`, in a separate run of pytest: how it finds PostgreSQL, and what it reports."""

import os
from pathlib import Path

import pytest
from sqlalchemy import make_url

from testkit import preloaded
from testkit.library import rows

TESTS = """
from pathlib import Path

def test_both(new_database):
    with Path("made").open("a") as made:
        print(new_database(None), file=made)

def test_neither():
    pass
"""

NO_POSTGRESQL = (
    "FAILED: no test ran on PostgreSQL: no installation was found. Install PostgreSQL, set TEST_POSTGRES_URL, "
    "or use --sqlite-only."
)

# Simulates a machine without PostgreSQL.
NONE_INSTALLED = """
from testkit import postgresql

postgresql._installations = lambda: iter(())
"""


def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, list[str], list[str]]:
    """Run pytest; return its exit status, its last lines, and the addresses of the databases that it made."""
    (folder / "test_example.py").write_text(TESTS, encoding="utf-8")
    (folder / "none_installed.py").write_text(NONE_INSTALLED, encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", "PYTEST_"))}
    ended = preloaded.run(
        "pytest",
        [
            *("-q", "-p", "no:cacheprovider", "-p", "none_installed"),
            *("-p", "no:schemathesis", "-p", "no:hypothesispytest"),  # They take longer to load than everything else.
            *arguments,
        ],
        folder,
        {**inherited, **environment},
    )
    made = folder / "made"
    urls = made.read_text(encoding="utf-8").split() if made.exists() else []
    assert ended.stderr == ""
    return ended.returncode, ended.stdout.splitlines()[-3:], urls


def test_a_run_without_postgresql_fails(tmp_path: Path) -> None:
    status, last_lines, made = run(tmp_path)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert last_lines == [
        "tests on a database: 1 on SQLite, 0 on PostgreSQL",
        NO_POSTGRESQL,
        "2 passed" + last_lines[-1].removeprefix("2 passed"),
    ]
    assert [make_url(url).get_backend_name() for url in made] == ["sqlite"]


def test_a_run_with_sqlite_only_passes_and_reports_it(tmp_path: Path) -> None:
    status, last_lines, made = run(tmp_path, "--sqlite-only")
    assert status == pytest.ExitCode.OK
    assert last_lines[:2] == [
        "tests on a database: 1 on SQLite, 0 on PostgreSQL",
        "no test ran on PostgreSQL, because of --sqlite-only",
    ]
    assert [make_url(url).get_backend_name() for url in made] == ["sqlite"]


@pytest.mark.postgresql
def test_a_configured_server_is_used_and_keeps_its_databases(tmp_path: Path, library_url: str) -> None:
    named = library_url.replace("+psycopg2", "")
    status, last_lines, made = run(tmp_path, TEST_POSTGRES_URL=named)
    assert status == pytest.ExitCode.OK
    assert last_lines[1] == "tests on a database: 1 on SQLite, 1 on PostgreSQL"
    [url] = [make_url(url) for url in made if url.startswith("postgresql")]
    assert (url.host, url.port) == (make_url(named).host, make_url(named).port)
    assert url.database != make_url(named).database
    databases = {name for (name,) in rows(library_url, "SELECT datname FROM pg_database")}
    assert url.database not in databases
    # The plugin only connects to the configured database, and changes nothing in it.
    assert rows(library_url, "SELECT relname FROM pg_class WHERE relname IN ('shelves', 'books') ORDER BY 1") == [
        ("books",),
        ("shelves",),
    ]
    assert rows(library_url, "SELECT * FROM shelves") == []
