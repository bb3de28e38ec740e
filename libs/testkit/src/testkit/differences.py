"""Shows that two databases behind a service make no difference to its clients.

The service runs once on each of them, for all examples of a test; what the tables hold is taken out between two.
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

from testkit.plugin import POSTGRESQL, SQLITE, Databases, MigrationsOf, running

SETTINGS = settings(
    deadline=None,
    max_examples=10,
    derandomize=True,
    # A long sequence takes minutes to be made shorter; the first call that is answered differently tells enough.
    phases=(Phase.explicit, Phase.generate),
    # The two services are the same for all examples, and have nothing in them when one begins.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

_DIFFERENT_EACH_TIME = {"access_token", "refresh_token", "created_at", "expires_at", "request_id", "updated_at"}


@dataclass(frozen=True)
class Call:
    """One request; `token` is sent as a bearer token.

    `{3}` in its path stands for the id of the third thing made, and the path "next" for the page after the last one.
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
    """What a client sees of an answer, but for what differs each time: times, tokens and request ids."""

    to: Call
    status: int
    headers: Mapping[str, str | None]
    body: Any


class Both:
    """One service on SQLite, and on PostgreSQL."""

    def __init__(self, clients: Sequence[httpx.AsyncClient], databases: Sequence[Engine]) -> None:
        self._clients = clients
        self._databases = databases
        self._tables = MetaData()
        # Not those of SQLite, which has tables of its own behind an index of words.
        self._tables.reflect(databases[1])
        self._tables.remove(self._tables.tables["alembic_version"])

    async def answer_alike(self, calls: Sequence[Call]) -> None:
        """Make the calls one after the other, beginning with empty tables; an AssertionError names a difference."""
        for database in self._databases:
            with database.begin() as connection:
                for table in reversed(self._tables.sorted_tables):
                    connection.execute(table.delete())
        on_sqlite, on_postgresql = [await _answers(client, calls) for client in self._clients]
        for one, other in zip(on_sqlite, on_postgresql, strict=True):
            assert one == other


@asynccontextmanager
async def on_both(folder: Path, migrations_of: MigrationsOf, make_app: Callable[[str], FastAPI]) -> AsyncIterator[Both]:
    """The service that `make_app` makes for the address of a database, running on either."""
    async with AsyncExitStack() as stack:
        urls = [stack.enter_context(Databases(backend, folder).made())(None) for backend in (SQLITE, POSTGRESQL)]
        for url in urls:
            migrations_of(url).upgrade()
        clients = [await stack.enter_async_context(running(make_app(url))) for url in urls]
        yield Both(clients, [create_engine(url, poolclass=NullPool) for url in urls])


async def _answers(client: httpx.AsyncClient, calls: Sequence[Call]) -> list[Answer]:
    """The answers to the calls.

    An id is told as the number of what was made with it: PostgreSQL leaves one out when an insertion fails.
    """
    ids: list[int] = []
    seen: list[Answer] = []
    following = "/"
    for call in calls:
        path = following if call.path == "next" else call.path
        path = re.sub(r"\{(\d+)\}", lambda match: str(_id_of(int(match[1]), ids)), path)
        answer = await client.request(call.method, path, json=call.body, headers=call.headers)
        body: Any = answer.json() if answer.content else None
        if answer.status_code == 201:
            ids.append(body["id"])
        following = answer.links.get("next", {}).get("url", following)
        location = answer.headers.get("location")
        headers = {
            "location": location and re.sub(r"\d+$", lambda match: _number_of(int(match[0]), ids), location),
            # There may be an id in a cursor, and a moment.
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
        told = {name: value for name, value in body.items() if name not in _DIFFERENT_EACH_TIME | {"instance"}}
        return {**told, "id": _number_of(body["id"], ids)} if "id" in body else told
    return body
