"""Connections to PostgreSQL that break: while nobody uses them, in a read, in a write, and in a commit."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from chassis.errors import DatabaseUnavailable, DomainError, OutcomeUnknown
from testkit.library import Holding, Library, Shelf, add_shelf, connections_to, eventually, names, opened, rows
from testkit.library_migrations import make_migrations
from testkit.postgresql_proxy import Proxy

pytestmark = pytest.mark.postgresql

OTHERS = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"


def terminate_all(url: str, condition: str = "true") -> int:
    """End all connections of others to this database, as an administrator does, and say how many there were."""
    ended = rows(url, f"SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS} AND {condition}")
    pids = ", ".join(str(pid) for pid, _ in ended) or "0"
    eventually(lambda: not rows(url, f"SELECT 1 FROM pg_stat_activity WHERE pid IN ({pids})"))
    return len(ended)


async def fill_the_pools(library: Library) -> None:
    """Have each connection made that there may be."""
    holding = [Holding(lambda session: session.execute(text("SELECT 1"))) for _ in range(4)]
    tasks = [
        asyncio.create_task(run(each)) for run, each in zip([library.read, library.write] * 2, holding, strict=True)
    ]
    for each in holding:
        await each.entered()
    for each in holding:
        each.go_on()
    await asyncio.gather(*tasks)


@pytest.fixture
def library(library_url: str) -> Iterator[Library]:
    """Two connections for reads, and two for writes."""
    with opened(library_url, pool_size=4) as database:
        yield database


async def test_connections_that_broke_while_nobody_used_them_cost_nobody_anything(
    library: Library, library_url: str
) -> None:
    for number in range(3):
        await fill_the_pools(library)
        assert terminate_all(library_url) == 4
        stored = [f"shelf {each}" for each in range(2 * number)]
        assert await asyncio.gather(*(library.read(names) for _ in range(2))) == [stored] * 2
        await library.write(add_shelf(f"shelf {2 * number}"))
        await library.write(add_shelf(f"shelf {2 * number + 1}"))


async def test_a_change_that_is_sent_only_with_the_commit_is_stored_once_after_its_connection_broke(
    library: Library, library_url: str
) -> None:
    await fill_the_pools(library)
    terminate_all(library_url)
    await library.write(lambda session: session.add(Shelf(name="poems")))
    assert rows(library_url, "SELECT name FROM shelves") == [("poems",)]


async def test_whether_the_database_is_current_is_told_after_its_connections_broke(
    tmp_path: Any, empty_url: str
) -> None:
    migrations = make_migrations(tmp_path, empty_url)
    migrations.upgrade()
    with opened(empty_url, pool_size=2) as library:
        assert await library.read(migrations.is_current)
        assert terminate_all(empty_url) == 1
        assert await library.read(migrations.is_current)


class Sleeping:
    """Work whose statement is still running when the test ends its connection, the first few times."""

    def __init__(self, before: Callable[[Session], object], times: int) -> None:
        self._before = before
        self._times = times
        self.tries = 0

    def __call__(self, session: Session) -> list[str]:
        self.tries += 1
        self._before(session)
        if self.tries <= self._times:
            session.execute(text("SELECT pg_sleep(60)"))
        return names(session)


async def terminate_the_sleeping(url: str) -> None:
    sleeping = "state = 'active' AND position('pg_sleep' in query) > 0"

    def terminated() -> bool:
        return terminate_all(url, sleeping) == 1

    await asyncio.to_thread(eventually, terminated)


async def test_a_connection_that_breaks_in_a_read_is_made_up_for_by_another(library: Library, library_url: str) -> None:
    work = Sleeping(names, times=1)
    read = asyncio.create_task(library.read(work))
    await terminate_the_sleeping(library_url)
    assert await read == []
    assert work.tries == 2


async def test_a_read_that_loses_its_second_connection_too_is_told_that_the_database_is_away(
    library: Library, library_url: str
) -> None:
    work = Sleeping(names, times=2)
    read = asyncio.create_task(library.read(work))
    for _ in range(2):
        await terminate_the_sleeping(library_url)
    with pytest.raises(DatabaseUnavailable):
        await read
    assert work.tries == 2
    assert await library.read(work) == []


async def test_a_connection_that_breaks_in_a_write_before_its_commit_is_made_up_for_and_it_is_stored_once(
    library: Library, library_url: str
) -> None:
    work = Sleeping(add_shelf("poems"), times=1)
    write = asyncio.create_task(library.write(work))
    await terminate_the_sleeping(library_url)
    assert await write == ["poems"]
    assert rows(library_url, "SELECT name FROM shelves") == [("poems",)]


async def test_a_write_that_loses_its_second_connection_too_has_changed_nothing_and_says_so(
    library: Library, library_url: str
) -> None:
    work = Sleeping(add_shelf("poems"), times=2)
    write = asyncio.create_task(library.write(work))
    for _ in range(2):
        await terminate_the_sleeping(library_url)
    with pytest.raises(DatabaseUnavailable, match="Nothing was changed"):
        await write
    assert rows(library_url, "SELECT name FROM shelves") == []


@pytest.mark.parametrize("carried_out", [True, False])
async def test_of_a_connection_that_breaks_in_the_commit_nobody_can_tell_whether_it_was_stored(
    library_url: str, *, carried_out: bool
) -> None:
    with Proxy(library_url) as proxy, opened(proxy.url) as library:
        await library.write(add_shelf("plays"))
        proxy.cut_at_next("COMMIT", carried_out=carried_out)
        with pytest.raises(OutcomeUnknown) as unknown:
            await library.write(add_shelf("poems"))
        assert "othing was changed" not in unknown.value.detail
        # It was not tried again: once at most, whatever became of it.
        assert sum(statement.startswith("INSERT") for statement in proxy.statements) == 2
        assert rows(library_url, "SELECT count(*) FROM shelves") == [(1 + carried_out,)]
        await library.write(add_shelf("prose"))
        assert (await library.read(names))[-1] == "prose"


class Ticker:
    """Counts on the event loop, and knows the longest time that it was kept from it."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            self.longest = max(self.longest, time.monotonic() - before)

    def stop(self) -> None:
        self._task.cancel()


TIMEOUT = 0.5


async def ended(work: Any) -> tuple[object, float]:
    """How it ended, and after which time."""
    started = time.monotonic()
    try:
        return await work, time.monotonic() - started
    except DomainError as error:
        return type(error), time.monotonic() - started


@pytest.mark.parametrize("then", ["goes on", "cuts its connections"])
async def test_a_server_that_hangs_costs_a_deadline_and_after_it_everything_works(library_url: str, then: str) -> None:
    with (
        Proxy(library_url) as proxy,
        opened(proxy.url, pool_size=4, pool_timeout=TIMEOUT, timeout=TIMEOUT) as library,
    ):
        await fill_the_pools(library)
        ticker = Ticker()
        proxy.hang()
        read, write = await asyncio.gather(ended(library.read(names)), ended(library.write(add_shelf("poems"))))
        assert (read[0], write[0]) == (DatabaseUnavailable, OutcomeUnknown)
        # Who finds all connections taken waits no longer than that either.
        more = await asyncio.gather(*(ended(run(names)) for run in (library.read, library.write) for _ in range(5)))
        assert all(isinstance(how, type) and issubclass(how, DomainError) for how, _ in more)
        assert max(seconds for _, seconds in (read, write)) < TIMEOUT + 1
        assert max(seconds for _, seconds in more) < 2 * TIMEOUT + 1
        ticker.stop()
        assert ticker.longest < 0.5
        if then == "goes on":
            proxy.go_on()
        else:
            proxy.go_on_without_the_old_connections()

        async def answers() -> bool:
            how, _ = await ended(library.read(names))
            return isinstance(how, list)

        deadline = time.monotonic() + 10
        while not await answers():
            assert time.monotonic() < deadline
        # What was given up on is done by now, or never will be; the next ones are answered without a fault.
        for number in range(10):
            await library.write(add_shelf(f"shelf {number}"))
            assert len([name for name in await library.read(names) if name.startswith("shelf")]) == number + 1
        assert connections_to(library_url) <= 4


async def test_a_server_that_hangs_while_a_connection_is_made_costs_a_deadline_too(library_url: str) -> None:
    with (
        Proxy(library_url) as proxy,
        opened(proxy.url, pool_size=2, pool_timeout=TIMEOUT, timeout=TIMEOUT) as library,
    ):
        proxy.hang()
        ticker = Ticker()
        read, write = await asyncio.gather(ended(library.read(names)), ended(library.write(add_shelf("poems"))))
        ticker.stop()
        assert (read[0], write[0]) == (DatabaseUnavailable, OutcomeUnknown)
        assert max(read[1], write[1]) < TIMEOUT + 1
        assert ticker.longest < 0.5
