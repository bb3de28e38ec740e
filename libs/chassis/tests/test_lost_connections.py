"""PostgreSQL connections that break: while idle, in a read, in a write, and in a commit."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from chassis.database.migrations import SchemaState
from chassis.errors import DatabaseUnavailable, DomainError, OutcomeUnknown
from testkit.library import BlockedWork, Library, Shelf, add_shelf, connections_to, eventually, names, opened, rows
from testkit.library_migrations import make_migrations
from testkit.postgresql_proxy import Proxy

pytestmark = pytest.mark.postgresql

OTHER_CLIENTS = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"


def terminate_all(url: str, condition: str = "true") -> int:
    """Terminate all other connections to this database, and return their number."""
    terminated = rows(
        url, f"SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHER_CLIENTS} AND {condition}"
    )
    pids = ", ".join(str(pid) for pid, _ in terminated) or "0"
    eventually(lambda: not rows(url, f"SELECT 1 FROM pg_stat_activity WHERE pid IN ({pids})"))
    return len(terminated)


async def fill_pools(library: Library) -> None:
    """Open the maximum number of connections."""
    blocked = [BlockedWork(lambda session: session.execute(text("SELECT 1"))) for _ in range(4)]
    tasks = [
        asyncio.create_task(run(each)) for run, each in zip([library.read, library.write] * 2, blocked, strict=True)
    ]
    for each in blocked:
        await each.entered()
    for each in blocked:
        each.release()
    await asyncio.gather(*tasks)


@pytest.fixture
def library(library_url: str) -> Iterator[Library]:
    """A library with two connections for reads and two for writes."""
    with opened(library_url, pool_size=4) as database:
        yield database


async def test_idle_connections_that_broke_cause_no_errors(library: Library, library_url: str) -> None:
    for number in range(3):
        await fill_pools(library)
        assert terminate_all(library_url) == 4
        stored = [f"shelf {each}" for each in range(2 * number)]
        assert await asyncio.gather(*(library.read(names) for _ in range(2))) == [stored] * 2
        await library.write(add_shelf(f"shelf {2 * number}"))
        await library.write(add_shelf(f"shelf {2 * number + 1}"))


async def test_a_change_flushed_on_commit_is_stored_once_after_a_disconnect(library: Library, library_url: str) -> None:
    await fill_pools(library)
    terminate_all(library_url)
    await library.write(lambda session: session.add(Shelf(name="poems")))
    assert rows(library_url, "SELECT name FROM shelves") == [("poems",)]


async def test_the_state_can_be_read_after_a_disconnect(tmp_path: Any, empty_url: str) -> None:
    migrations = make_migrations(tmp_path, empty_url)
    migrations.upgrade()
    with opened(empty_url, pool_size=2) as library:
        assert await library.inspect(migrations.state) is SchemaState.USABLE
        assert terminate_all(empty_url) == 1
        assert await library.inspect(migrations.state) is SchemaState.USABLE


class Sleeping:
    """Work that runs a long statement the first few times, during which the test terminates its connection."""

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


async def terminate_sleeping(url: str) -> None:
    sleeping = "state = 'active' AND position('pg_sleep' in query) > 0"

    def terminated() -> bool:
        return terminate_all(url, sleeping) == 1

    await asyncio.to_thread(eventually, terminated)


async def test_a_read_is_retried_on_disconnect(library: Library, library_url: str) -> None:
    work = Sleeping(names, times=1)
    read = asyncio.create_task(library.read(work))
    await terminate_sleeping(library_url)
    assert await read == []
    assert work.tries == 2


async def test_a_read_that_disconnects_twice_is_unavailable(library: Library, library_url: str) -> None:
    work = Sleeping(names, times=2)
    read = asyncio.create_task(library.read(work))
    for _ in range(2):
        await terminate_sleeping(library_url)
    with pytest.raises(DatabaseUnavailable):
        await read
    assert work.tries == 2
    assert await library.read(work) == []


async def test_a_write_is_retried_on_disconnect_and_stored_once(library: Library, library_url: str) -> None:
    work = Sleeping(add_shelf("poems"), times=1)
    write = asyncio.create_task(library.write(work))
    await terminate_sleeping(library_url)
    assert await write == ["poems"]
    assert rows(library_url, "SELECT name FROM shelves") == [("poems",)]


async def test_a_write_that_disconnects_twice_is_unavailable_and_changes_nothing(
    library: Library, library_url: str
) -> None:
    work = Sleeping(add_shelf("poems"), times=2)
    write = asyncio.create_task(library.write(work))
    for _ in range(2):
        await terminate_sleeping(library_url)
    with pytest.raises(DatabaseUnavailable, match="Nothing was changed"):
        await write
    assert rows(library_url, "SELECT name FROM shelves") == []


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_disconnect_in_the_commit_is_outcome_unknown(library_url: str, *, carried_out: bool) -> None:
    with Proxy(library_url) as proxy, opened(proxy.url) as library:
        await library.write(add_shelf("plays"))
        proxy.cut_at_next("COMMIT", carried_out=carried_out)
        with pytest.raises(OutcomeUnknown) as unknown:
            await library.write(add_shelf("poems"))
        assert "othing was changed" not in unknown.value.detail
        # The write was not retried.
        assert sum(statement.startswith("INSERT") for statement in proxy.statements) == 2
        assert rows(library_url, "SELECT count(*) FROM shelves") == [(1 + carried_out,)]
        await library.write(add_shelf("prose"))
        assert (await library.read(names))[-1] == "prose"


class Ticker:
    """Measures the longest time for which the event loop was blocked."""

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


async def timed(work: Any) -> tuple[object, float]:
    """The result or the class of the error, and the duration in seconds."""
    started = time.monotonic()
    try:
        return await work, time.monotonic() - started
    except DomainError as error:
        return type(error), time.monotonic() - started


@pytest.mark.parametrize("then", ["resumes", "closes connections"])
async def test_a_hanging_server_causes_timeouts_and_then_recovers(library_url: str, then: str) -> None:
    with (
        Proxy(library_url) as proxy,
        opened(proxy.url, pool_size=4, pool_timeout=TIMEOUT, timeout=TIMEOUT) as library,
    ):
        await fill_pools(library)
        ticker = Ticker()
        proxy.hang()
        read, write = await asyncio.gather(timed(library.read(names)), timed(library.write(add_shelf("poems"))))
        assert (read[0], write[0]) == (DatabaseUnavailable, OutcomeUnknown)
        # Calls that wait for a connection time out as well.
        more = await asyncio.gather(*(timed(run(names)) for run in (library.read, library.write) for _ in range(5)))
        assert all(isinstance(how, type) and issubclass(how, DomainError) for how, _ in more)
        assert max(seconds for _, seconds in (read, write)) < TIMEOUT + 1
        assert max(seconds for _, seconds in more) < 2 * TIMEOUT + 1
        ticker.stop()
        assert ticker.longest < 0.5
        if then == "resumes":
            proxy.resume()
        else:
            proxy.resume_without_old_connections()

        async def answers() -> bool:
            how, _ = await timed(library.read(names))
            return isinstance(how, list)

        deadline = time.monotonic() + 10
        while not await answers():
            assert time.monotonic() < deadline
        # The abandoned calls are finished or cancelled by now; new ones succeed.
        for number in range(10):
            await library.write(add_shelf(f"shelf {number}"))
            assert len([name for name in await library.read(names) if name.startswith("shelf")]) == number + 1
        assert connections_to(library_url) <= 4


async def test_a_server_that_hangs_on_connect_causes_timeouts(library_url: str) -> None:
    with (
        Proxy(library_url) as proxy,
        opened(proxy.url, pool_size=2, pool_timeout=TIMEOUT, timeout=TIMEOUT) as library,
    ):
        proxy.hang()
        ticker = Ticker()
        read, write = await asyncio.gather(timed(library.read(names)), timed(library.write(add_shelf("poems"))))
        ticker.stop()
        assert (read[0], write[0]) == (DatabaseUnavailable, OutcomeUnknown)
        assert max(read[1], write[1]) < TIMEOUT + 1
        assert ticker.longest < 0.5
