"""Fixtures for the tests of both services, as a pytest plugin; nothing else imports this module.

A test works on a real database, made for it and gone after it: a copy of one that was migrated once. Whatever asks
for the `backend`, as all of these fixtures do, runs once on SQLite and once on PostgreSQL. The database that the
environment configures is never touched, for no test sees the environment's settings, and what is dropped here is
only what was made here.
"""

import os
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, NullPool, create_engine, make_url

from chassis import logs
from chassis.database.migrations import Migrations
from chassis.database.url import as_text, normalise
from chassis.settings import ServiceSettings
from testkit.emptying import Shape, is_emptied, shape_of
from testkit.postgresql import NoPostgreSQL, Server
from testkit.user_service_stub import UserServiceStub

MigrationsOf = Callable[[str], Migrations]
"""Makes the migrations of a service for the database at this address."""

NewDatabase = Callable[[MigrationsOf | None], str]
"""Makes a database for one test, migrated or empty, and gives its address."""

SQLITE, POSTGRESQL = "sqlite", "postgresql"

# The workers of pytest-xdist inherit the environment, and with it the server that the first process has started.
_URL = "TEST_POSTGRES_URL"
_server = pytest.StashKey[Server]()
_reason = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sqlite-only", action="store_true", help="leave PostgreSQL out, and say so at the end")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sqlite: what the test is about exists on SQLite only")
    config.addinivalue_line("markers", "postgresql: what the test is about exists on PostgreSQL only")
    if config.option.sqlite_only or config.option.collectonly or config.option.help or os.environ.get(_URL):
        return
    try:
        config.stash[_server] = Server()
    except NoPostgreSQL as error:
        config.stash[_reason] = str(error)
    else:
        os.environ[_URL] = config.stash[_server].url


def pytest_unconfigure(config: pytest.Config) -> None:
    if _server in config.stash:
        config.stash[_server].stop()
        del os.environ[_URL]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    only = [name for name in (SQLITE, POSTGRESQL) if metafunc.definition.get_closest_marker(name)]
    wanted = only or [SQLITE, POSTGRESQL]
    if metafunc.config.option.sqlite_only or _reason in metafunc.config.stash:
        wanted = [name for name in wanted if name == SQLITE]
    metafunc.parametrize("backend", wanted, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _reason in session.config.stash and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ran: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        parameters = report.nodeid.partition("[")[2].rstrip("]").split("-")
        ran.update(name for name in (SQLITE, POSTGRESQL) if name in parameters)
    if ran:
        terminalreporter.write_line(f"on a database: {ran[SQLITE]} on SQLite, {ran[POSTGRESQL]} on PostgreSQL")
    if _reason in config.stash:
        terminalreporter.write_line(
            f"FAILED: nothing ran on PostgreSQL: {config.stash[_reason]}. Install one, name one in {_URL}, "
            "or ask for --sqlite-only.",
            red=True,
        )
    elif config.option.sqlite_only:
        terminalreporter.write_line("nothing ran on PostgreSQL, as --sqlite-only asks for", yellow=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Unconfigured, structlog would show a traceback with the values of all variables, which takes seconds."""
    logs.configure("tests", "INFO", "console")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's DATABASE_URL is not for tests."""
    classes: list[type[ServiceSettings]] = [ServiceSettings]
    for each in classes:  # The list grows by the subclasses of each, and by theirs.
        classes += each.__subclasses__()
    known = {name.upper() for each in classes for name in each.model_fields}
    for name in list(os.environ):
        if name.upper() in known:  # The settings are read without regard to case.
            monkeypatch.delenv(name)


class Databases:
    """Makes databases on one of the two, as copies of a migrated one, and takes them away again.

    On PostgreSQL a copy takes ten times as long as emptying one does. A database that a test leaves as it was, but for
    its rows, is therefore emptied and given to the next test.
    """

    def __init__(self, backend: str, folder: Path) -> None:
        self._folder = folder
        self._templates: dict[MigrationsOf | None, str] = {None: ""}
        self._shapes: dict[MigrationsOf | None, Shape] = {}
        self._emptied: defaultdict[MigrationsOf | None, list[str]] = defaultdict(list)
        self._server = normalise(os.environ[_URL]) if backend == POSTGRESQL else None

    @contextmanager
    def made(self) -> Iterator[NewDatabase]:
        """What makes databases that are gone, or emptied, at the end."""
        mine: list[tuple[MigrationsOf | None, str]] = []

        def make(migrations_of: MigrationsOf | None) -> str:
            if migrations_of not in self._templates:
                template = self._address()
                self._copy("", template)
                assert migrations_of is not None
                migrations_of(template).upgrade()
                self._templates[migrations_of] = template
                if self._server is not None:
                    self._shapes[migrations_of] = shape_of(template)
            if self._emptied[migrations_of]:
                address = self._emptied[migrations_of].pop()
            else:
                address = self._address()
                self._copy(self._templates[migrations_of], address)
            mine.append((migrations_of, address))
            return address

        try:
            yield make
        finally:
            for migrations_of, address in mine:
                if migrations_of in self._shapes and is_emptied(address, self._shapes[migrations_of]):
                    self._emptied[migrations_of].append(address)
                else:
                    self._remove([address])

    def close(self) -> None:
        self._remove([template for template in self._templates.values() if template])
        self._remove([address for addresses in self._emptied.values() for address in addresses])

    def _address(self) -> str:
        name = f"seam_test_{uuid.uuid4().hex}"
        if self._server is None:
            return f"sqlite:///{self._folder / name}.db"
        return as_text(make_url(self._server).set(database=name))

    def _copy(self, template: str, address: str) -> None:
        if self._server is not None:
            # Copying the files is twice as fast as logging their pages, which is the default.
            source = f'"{make_url(template).database}" STRATEGY FILE_COPY' if template else "template0"
            self._tell_server(f'CREATE DATABASE "{make_url(address).database}" TEMPLATE {source}')
        elif template:
            shutil.copy(str(make_url(template).database), str(make_url(address).database))

    def _remove(self, addresses: list[str]) -> None:
        for address in addresses:
            database = str(make_url(address).database)
            if self._server is not None:
                self._tell_server(f'DROP DATABASE "{database}" WITH (FORCE)')
                continue
            for file in (database, f"{database}-wal", f"{database}-shm"):
                Path(file).unlink(missing_ok=True)

    def _tell_server(self, statement: str) -> None:
        assert self._server is not None
        engine = create_engine(self._server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)


@pytest.fixture(scope="session")
def databases(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    databases = Databases(backend, tmp_path_factory.mktemp("databases"))
    yield databases
    databases.close()


@pytest.fixture
def new_database(databases: Databases) -> Iterator[NewDatabase]:
    """Makes databases for one test."""
    with databases.made() as make:
        yield make


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    """The test's database, from beside the service: for what no call of the API does.

    Each service's tests have a `database_url`, the address of a database for one test.
    """
    engine = create_engine(database_url, poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def user_service() -> Iterator[UserServiceStub]:
    """A stand-in for the user service, on a real socket."""
    with UserServiceStub() as stub:
        yield stub


def climb_up_and_down(migrations: Migrations) -> None:
    """Take an empty database through every migration: up, down and up again, and at the end all the way down."""
    below = "base"
    for revision in migrations.revisions():
        migrations.upgrade(revision)
        migrations.downgrade(below)
        migrations.upgrade(revision)
        below = revision
    assert not migrations.upgrade(), "the last revision is not the head"
    migrations.downgrade("base")


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The application between its start and its end, and a client that talks to it without a socket."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client
