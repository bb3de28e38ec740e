"""Fixtures of the tests of bad input; all of them check that nothing was stored."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from testkit.processes import Account, Service, Services


@pytest.fixture(scope="module")
def owner(services: Services) -> Account:
    return services.sign_up()


@pytest.fixture(scope="module")
def product(services: Services, owner: Account) -> dict[str, Any]:
    return services.create_product(owner, description="to stay as it is", sku="to-stay")


def rows(service: Service) -> dict[str, list[tuple[Any, ...]]]:
    """All rows that the service has stored, by table."""
    with closing(sqlite3.connect(service.database, timeout=10)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}


@pytest.fixture(autouse=True)
def assert_nothing_is_stored(services: Services, owner: Account, product: dict[str, Any]) -> Iterator[None]:
    both = (services.users, services.products)
    before = [rows(service) for service in both]
    assert all(any(stored.values()) for stored in before)
    yield
    assert [rows(service) for service in both] == before
    with services.products.client() as client:
        assert client.get("/products").json() == [product]
    for service in both:
        assert "unexpected exception" not in service.log


@pytest.fixture
def users(services: Services) -> Iterator[httpx.Client]:
    with services.users.client() as client:
        yield client


@pytest.fixture
def products(services: Services, owner: Account) -> Iterator[httpx.Client]:
    with services.products.client(headers=owner.bearer) as client:
        yield client
