"""The pytest plugin: databases to test on, and the fixtures that the tests of all packages share.

Tests that use the `backend` fixture, directly or through another one, run once on SQLite and once on PostgreSQL.
No test sees settings from the environment. Tests import nothing from this module.
"""

import gc
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, NullPool, create_engine

from chassis import logs
from chassis.settings import ServiceSettings
from testkit.applications import client_of
from testkit.databases import POSTGRESQL, SERVER_URL_VARIABLE, SQLITE, Databases, MigrationsOf, NewDatabase
from testkit.postgresql import NoPostgreSQL, Server
from testkit.user_service_stub import UserServiceStub

# The workers of pytest-xdist inherit the environment, and with it the server that the first process started.
_server = pytest.StashKey[Server]()
_missing_because = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sqlite-only", action="store_true", help="skip PostgreSQL, and report that at the end")


def pytest_configure(config: pytest.Config) -> None:
    # Collect garbage seldom: imports, the collection of tests and applications make many objects that stay.
    gc.set_threshold(100_000, 20, 20)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A script ignores Ctrl-C in what it runs in the background. All processes that tests start would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "sqlite: the tested behaviour exists on SQLite only")
    config.addinivalue_line("markers", "postgresql: the tested behaviour exists on PostgreSQL only")
    config.addinivalue_line("markers", "alone: shares no application, because it leaves more behind than rows")
    # On a busy machine, examples take any time.
    settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("tests")
    options = config.option
    if options.sqlite_only or options.collectonly or options.help or os.environ.get(SERVER_URL_VARIABLE):
        return
    try:
        config.stash[_server] = Server()
    except NoPostgreSQL as error:
        config.stash[_missing_because] = str(error)
    else:
        os.environ[SERVER_URL_VARIABLE] = config.stash[_server].url


def pytest_unconfigure(config: pytest.Config) -> None:
    if _server in config.stash:
        config.stash[_server].stop()
        del os.environ[SERVER_URL_VARIABLE]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    marked = [name for name in (SQLITE, POSTGRESQL) if metafunc.definition.get_closest_marker(name)]
    backends = marked or [SQLITE, POSTGRESQL]
    if metafunc.config.option.sqlite_only or _missing_because in metafunc.config.stash:
        backends = [name for name in backends if name == SQLITE]
    metafunc.parametrize("backend", backends, scope="session")


def pytest_collection_finish() -> None:
    """Never scan the imported modules and the collected tests again."""
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _missing_because in session.config.stash and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ran: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        parameters = report.nodeid.partition("[")[2].rstrip("]").split("-")
        ran.update(name for name in (SQLITE, POSTGRESQL) if name in parameters)
    if ran:
        terminalreporter.write_line(f"tests on a database: {ran[SQLITE]} on SQLite, {ran[POSTGRESQL]} on PostgreSQL")
    if _missing_because in config.stash:
        terminalreporter.write_line(
            f"FAILED: no test ran on PostgreSQL: {config.stash[_missing_because]}. Install PostgreSQL, set "
            f"{SERVER_URL_VARIABLE}, or use --sqlite-only.",
            red=True,
        )
    elif config.option.sqlite_only:
        terminalreporter.write_line("no test ran on PostgreSQL, because of --sqlite-only", yellow=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Without configuration, structlog prints tracebacks with the values of all variables, which takes seconds."""
    logs.configure("tests", "INFO", "console")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests must not use a developer's DATABASE_URL."""
    classes: list[type[ServiceSettings]] = [ServiceSettings]
    for each in classes:  # The loop also visits the classes that it appends.
        classes += each.__subclasses__()
    known = {name.upper() for each in classes for name in each.model_fields}
    for name in list(os.environ):
        if name.upper() in known:  # The names of settings are case-insensitive.
            monkeypatch.delenv(name)


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
def empty_url(new_database: NewDatabase) -> str:
    return new_database(None)


@pytest.fixture
def variant(request: pytest.FixtureRequest) -> str:
    """Whether the test has an application and a database of its own, or shares those of its module.

    To make an application takes longer than most tests.
    """
    return "own" if request.node.get_closest_marker("alone") else "shared"


@pytest.fixture
def own_url(new_database: NewDatabase, migrations_of: MigrationsOf) -> str:
    return new_database(migrations_of)


@pytest.fixture(scope="module")
def shared_url(databases: Databases, migrations_of: MigrationsOf) -> Iterator[str]:
    with databases.made() as new_database:
        yield new_database(migrations_of)


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, variant: str, databases: Databases, migrations_of: MigrationsOf
) -> Iterator[str]:
    """The address of a migrated database without rows.

    The tests of each service define `migrations_of`.
    """
    url = request.getfixturevalue(f"{variant}_url")
    yield url
    if variant == "shared":
        databases.empty(url, migrations_of)


@pytest.fixture
def app(request: pytest.FixtureRequest, variant: str, database_url: str) -> FastAPI:
    """The running application. The tests of each service define `own_app` and, for a module, `shared_app`."""
    app: FastAPI = request.getfixturevalue(f"{variant}_app")
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    """Direct access to the test's database, for what the API doesn't offer."""
    engine = create_engine(database_url, poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def user_service() -> Iterator[UserServiceStub]:
    """A stub of the user service, on a real socket."""
    with UserServiceStub() as stub:
        yield stub
