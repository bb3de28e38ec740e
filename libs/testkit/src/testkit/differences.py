"""Checks that clients see no difference between the two databases.

The service runs once on each database for all examples of a test; the tables are emptied before each example.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, settings
from sqlalchemy import Engine, MetaData, NullPool, create_engine

from chassis.database.migrations import OWN_TABLES
from testkit.applications import running
from testkit.databases import POSTGRESQL, SQLITE, Databases, MigrationsOf

SETTINGS = settings(
    max_examples=10,
    derandomize=True,
    # Shrinking a long sequence takes minutes, and the first different response is informative enough.
    phases=(Phase.explicit, Phase.generate),
    # All examples share the two services, which are emptied before each.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

_VOLATILE = {"access_token", "refresh_token", "created_at", "expires_at", "request_id", "updated_at"}


@dataclass(frozen=True)
class Call:
    """One request; `token` is sent as a bearer token.

    `{3}` in the path stands for the id of the third created resource; the path "next" for the page after the last one.
    """

    method: str
    path: str
    body: Any = None
    token: str | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass(frozen=True)
class Answer:
    """The parts of a response that must be equal: everything but times, tokens and request ids."""

    call: Call
    status: int
    headers: Mapping[str, str | None]
    body: Any


class Both:
    """A service on SQLite and on PostgreSQL."""

    def __init__(self, clients: Sequence[httpx.AsyncClient], databases: Sequence[Engine]) -> None:
        self._clients = clients
        self._databases = databases
        self._tables = MetaData()
        # The tables of PostgreSQL: SQLite has additional ones for full-text search.
        self._tables.reflect(databases[1])
        for name in OWN_TABLES:
            self._tables.remove(self._tables.tables[name])

    async def assert_equal_answers(self, calls: Sequence[Call]) -> None:
        """Make the calls one after another, starting with empty tables; raise AssertionError on a difference."""
        for database in self._databases:
            with database.begin() as connection:
                for table in reversed(self._tables.sorted_tables):
                    connection.execute(table.delete())
        on_sqlite, on_postgresql = [await _answers(client, calls) for client in self._clients]
        for one, other in zip(on_sqlite, on_postgresql, strict=True):
            assert one == other


@asynccontextmanager
async def on_both(folder: Path, migrations_of: MigrationsOf, make_app: Callable[[str], FastAPI]) -> AsyncIterator[Both]:
    """Run the service that `make_app` makes for a database address, on both databases."""
    async with AsyncExitStack() as stack:
        urls = [stack.enter_context(Databases(backend, folder).made())(None) for backend in (SQLITE, POSTGRESQL)]
        for url in urls:
            migrations_of(url).upgrade()
        clients = [await stack.enter_async_context(running(make_app(url))) for url in urls]
        yield Both(clients, [create_engine(url, poolclass=NullPool) for url in urls])


async def _answers(client: httpx.AsyncClient, calls: Sequence[Call]) -> list[Answer]:
    """The answers to the calls.

    Ids are replaced by the number of the created resource, because PostgreSQL skips an id when an insert fails.
    """
    ids: list[int] = []
    seen: list[Answer] = []
    next_page = "/"
    for call in calls:
        path = next_page if call.path == "next" else call.path
        path = re.sub(r"\{(\d+)\}", lambda match: str(_id_of(int(match[1]), ids)), path)
        answer = await client.request(call.method, path, json=call.body, headers=call.headers)
        body: Any = answer.json() if answer.content else None
        if answer.status_code == 201:
            ids.append(body["id"])
        next_page = answer.links.get("next", {}).get("url", next_page)
        location = answer.headers.get("location")
        headers = {
            "location": location and re.sub(r"\d+$", lambda match: _number_of(int(match[0]), ids), location),
            # Cursors may contain ids and times.
            "link": re.sub(r"cursor=[^&>]+", "cursor", answer.headers.get("link", "")),
            "x-total-count": answer.headers.get("x-total-count"),
        }
        seen.append(Answer(call, answer.status_code, headers, _comparable(body, ids)))
    return seen


def _id_of(number: int, ids: list[int]) -> int:
    return ids[number - 1] if number <= len(ids) else 10**6 + number


def _number_of(row_id: int, ids: list[int]) -> str:
    return f"number {ids.index(row_id) + 1}"


def _comparable(body: Any, ids: list[int]) -> Any:
    if isinstance(body, list):
        return [_comparable(item, ids) for item in body]
    if isinstance(body, dict):
        stable = {name: value for name, value in body.items() if name not in _VOLATILE | {"instance"}}
        return {**stable, "id": _number_of(body["id"], ids)} if "id" in body else stable
    return body
