"""The fixtures of the tests of the whole system; `conftest.py` hands them on."""

from collections.abc import Iterator

import pytest
from system_support import Services, running_services

from chassis.testing import Databases


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Both services, running for all tests of a module; a test that stops one starts it again."""
    with running_services(tmp_path_factory.mktemp("services")) as services:
        yield services


@pytest.fixture(scope="module")
def services_on_both(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The same on SQLite, and then again on PostgreSQL."""
    with (
        databases.made() as new_database,
        running_services(tmp_path_factory.mktemp("services"), lambda: new_database(None)) as services,
    ):
        yield services
