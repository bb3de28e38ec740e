"""Fixtures of the system tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from testkit.databases import Databases
from testkit.processes import Services, running_services
from tests.launcher.launching import Terminal, copy_with_standins, install_standins, make_venv_with_standin_of_pip


class _Scheduling(LoadFileScheduling):
    """Gives all tests of the launcher to one worker, so that the stand-ins are installed once."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder = file.rpartition("/")[0]
        return folder if folder == "tests/launcher" else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Scheduling:
    return _Scheduling(config, log)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Both services, running for all tests of a module. A test that stops one has to start it again."""
    with running_services(tmp_path_factory.mktemp("services")) as services:
        yield services


@pytest.fixture(scope="module")
def services_on_both(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The same, once on SQLite and once on PostgreSQL."""
    with (
        databases.made() as new_database,
        running_services(tmp_path_factory.mktemp("services"), lambda: new_database(None)) as services,
    ):
        yield services


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Starts commands, and stops those still running when the test ends."""
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher with stand-ins for the services, for the tools and for pip, installed."""
    tree = copy_with_standins(tmp_path_factory.mktemp("launcher") / "stand in")
    return install_standins(make_venv_with_standin_of_pip(tree))
