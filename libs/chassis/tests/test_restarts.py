"""A PostgreSQL server that is restarted under a stream of reads and writes, with one `Database` all the while."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from chassis.database.url import normalise
from chassis.errors import DatabaseUnavailable, OutcomeUnknown
from testkit.library import Base, Library, add_shelf, eventually, names, opened
from testkit.postgresql import Server

# A server of the test's own, so that no other test is disturbed.
pytestmark = pytest.mark.postgresql

SUCCESSES = 20


@pytest.fixture(scope="module")
def server(backend: str) -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@dataclass
class Stream:
    """One request after the other, until it is told that the server is back and enough succeeded after that."""

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
                # A client that is told to try again later does not do it at once.
                await asyncio.sleep(0.01)
            else:
                successes += begun_after


@pytest.mark.parametrize("immediately", [True, False])
async def test_a_restart_costs_the_requests_in_flight_and_none_after_it_and_nothing_is_lost(
    server: Server, *, immediately: bool
) -> None:
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
        there = await library.read(names)
        assert len(set(there)) == len(there)
        assert set(stream.stored) <= set(there)
        # What is there without having been acknowledged, its client was told to look for.
        unknown = sum(isinstance(error, OutcomeUnknown) for error in stream.errors)
        assert len(there) - len(stream.stored) <= unknown
