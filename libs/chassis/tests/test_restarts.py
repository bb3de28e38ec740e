"""A PostgreSQL server of these tests' own: it is restarted during reads and writes, and waits for a replica."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from sqlalchemy import create_engine

from chassis.database.url import normalise
from chassis.errors import DatabaseUnavailable, OutcomeUnknown
from testkit.library import Base, Library, add_shelf, eventually, names, opened, rows
from testkit.postgresql import Server

# A separate server, so that no other test is disturbed.
pytestmark = pytest.mark.postgresql

SUCCESSES = 20


@pytest.fixture(scope="module")
def server(backend: str) -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@dataclass
class Stream:
    """Sends requests one after another, until enough have succeeded after the restart."""

    library: Library
    is_back: asyncio.Event
    errors: list[Exception] = field(default_factory=list)
    late_errors: list[Exception] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)

    async def run(self, name: str, *, writes: bool) -> None:
        successes = number = 0
        while successes < SUCCESSES:
            begun_after = self.is_back.is_set()
            number += 1
            try:
                if writes:
                    await self.library.write(add_shelf(f"{name} {number}"))
                    self.stored.append(f"{name} {number}")
                else:
                    await self.library.read(names)
            except (DatabaseUnavailable, OutcomeUnknown) as error:
                (self.late_errors if begun_after else self.errors).append(error)
                # Clients don't retry immediately.
                await asyncio.sleep(0.01)
            else:
                successes += begun_after


@pytest.mark.parametrize("immediately", [True, False])
async def test_a_restart_fails_only_requests_in_flight_and_loses_no_write(server: Server, *, immediately: bool) -> None:
    with opened(normalise(server.url), pool_size=6) as library:
        Base.metadata.drop_all(library._write_engine)
        Base.metadata.create_all(library._write_engine)
        stream = Stream(library, asyncio.Event())
        tasks = [asyncio.create_task(stream.run(f"stream {each}", writes=each % 2 == 0)) for each in range(6)]
        await asyncio.to_thread(eventually, lambda: len(stream.stored) >= SUCCESSES)
        assert stream.errors == []
        await asyncio.to_thread(server.restart, immediately=immediately)
        stream.is_back.set()
        await asyncio.gather(*tasks)
        assert stream.late_errors == []
        assert any(isinstance(error, DatabaseUnavailable) for error in stream.errors)
        stored = await library.read(names)
        assert len(set(stored)) == len(stored)
        assert set(stream.stored) <= set(stored)
        # For each stored but unacknowledged row, the client got `outcome-unknown`.
        unknown = sum(isinstance(error, OutcomeUnknown) for error in stream.errors)
        assert len(stored) - len(stream.stored) <= unknown


async def test_a_commit_that_no_replica_confirms_has_an_unknown_outcome(server: Server) -> None:
    engine = create_engine(normalise(server.url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, opened(normalise(server.url), pool_size=2, timeout=1) as library:
        Base.metadata.drop_all(library._write_engine)
        Base.metadata.create_all(library._write_engine)

        def wait_for_replicas(names: str) -> None:
            connection.exec_driver_sql(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
            eventually(lambda: rows(normalise(server.url), "SHOW synchronous_standby_names") == [(names,)])

        await library.write(add_shelf("novels"))
        wait_for_replicas("missing")
        try:
            with pytest.raises(OutcomeUnknown):
                await library.write(add_shelf("poems"))
            # Nobody may rely on it yet: it would be lost with this server.
            assert await library.read(names) == ["novels"]
        finally:
            wait_for_replicas("")
        await library.write(add_shelf("plays"))
        assert await library.read(names) == ["novels", "poems", "plays"]
    engine.dispose()
