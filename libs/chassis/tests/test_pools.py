"""Connection pools on both databases: their size, and timeouts."""

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import event, make_url

from chassis.errors import DatabaseBusy
from testkit.library import BlockedWork, Library, add_shelf, connections_to, names, opened, write_locked


async def test_the_number_of_connections_is_limited(library_url: str) -> None:
    on_postgresql = make_url(library_url).get_backend_name() == "postgresql"
    made: list[object] = []
    with opened(library_url, pool_size=4) as library:
        for engine in (library._read_engine, library._write_engine):
            event.listen(engine, "connect", lambda connection, _: made.append(connection))
        # SQLite has one writer.
        writers = 2 if on_postgresql else 1
        blocked = [BlockedWork() for _ in range(4)]
        tasks: list[asyncio.Task[Any]] = [
            *(asyncio.create_task(library.write(each)) for each in blocked[:writers]),
            *(asyncio.create_task(library.read(each)) for each in blocked[writers:]),
        ]
        for each in blocked:
            await each.entered()
        tasks += [asyncio.create_task(library.read(names)) for _ in range(20)]
        tasks += [asyncio.create_task(library.write(names)) for _ in range(20)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        for each in blocked:
            each.release()
        await asyncio.gather(*tasks)
        assert len(made) <= 4
        if on_postgresql:
            assert connections_to(library_url) <= 4


async def test_reads_neither_wait_for_a_writer_nor_see_its_changes(library: Library) -> None:
    await library.write(add_shelf("poems"))
    writer = BlockedWork(add_shelf("plays"))
    write = asyncio.create_task(library.write(writer))
    await writer.entered()
    assert await asyncio.gather(*(library.read(names) for _ in range(10))) == [["poems"]] * 10
    writer.release()
    assert await write == "done"
    assert await library.read(names) == ["poems", "plays"]


async def test_blocked_writers_do_not_delay_readers(library: Library, library_url: str) -> None:
    with write_locked(library_url):
        writes = [asyncio.create_task(library.write(add_shelf(f"shelf {number}"))) for number in range(20)]
        for _ in range(10):
            assert await asyncio.gather(*(library.read(names) for _ in range(5))) == [[]] * 5
        assert not any(write.done() for write in writes)
    await asyncio.gather(*writes)
    assert len(await library.read(names)) == 20


@pytest.mark.parametrize("access", ["read", "write"])
async def test_a_pool_timeout_is_database_busy(library_url: str, access: str) -> None:
    with opened(library_url, pool_size=2, pool_timeout=0.2) as library:
        run = library.read if access == "read" else library.write
        blocked = BlockedWork()
        first = asyncio.create_task(run(blocked))
        await blocked.entered()
        started = time.monotonic()
        answers = await asyncio.gather(*(run(names) for _ in range(20)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {DatabaseBusy}
        assert time.monotonic() - started < 4  # The default is 5.
        blocked.release()
        assert await first == "done"
        assert await run(names) == []


async def test_the_lock_timeout_is_not_longer_than_the_statement_timeout(library_url: str) -> None:
    with opened(library_url, pool_timeout=60, timeout=0.3) as library:
        with write_locked(library_url), pytest.raises(DatabaseBusy):
            await library.write(add_shelf("poems"))
        await library.write(add_shelf("poems"))
