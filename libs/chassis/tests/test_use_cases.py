"""`chassis.use_cases` on a real database: transactions, arguments and errors."""

import threading

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.database.transactions import Database
from chassis.use_cases import Service, reads, writes
from testkit.library import Shelf, ShelfRepository, rows


class Repositories:
    def __init__(self, session: Session) -> None:
        self.shelves = ShelfRepository(session)
        self.session = session


class NotWanted(Exception):
    pass


class Shelves(Service[Repositories]):
    @writes
    def add(self, repos: Repositories, name: str, *, then: type[Exception] | None = None) -> int:
        """Add a shelf."""
        shelf = repos.shelves.add(Shelf(name=name))
        if then is not None:
            raise then
        return shelf.id

    @reads
    def names(self, repos: Repositories) -> list[str]:
        return [shelf.name for shelf in repos.shelves.page(100)]

    @reads
    def add_in_a_read(self, repos: Repositories, name: str) -> None:
        repos.session.add(Shelf(name=name))

    @writes
    def thread(self, repos: Repositories) -> str:
        repos.session.execute(select(Shelf.id))
        return threading.current_thread().name


@pytest.fixture
def shelves(library_url: str) -> Shelves:
    return Shelves(Database(library_url, Repositories, pool_size=2, pool_timeout=5))


async def test_a_write_is_committed_when_it_returns(shelves: Shelves, library_url: str) -> None:
    assert await shelves.add("poems") == 1
    assert rows(library_url, "SELECT name FROM shelves") == [("poems",)]
    assert await shelves.names() == ["poems"]


async def test_a_write_that_raises_stores_nothing(shelves: Shelves) -> None:
    with pytest.raises(NotWanted):
        await shelves.add("poems", then=NotWanted)
    assert await shelves.names() == []


async def test_a_change_in_a_read_raises(shelves: Shelves) -> None:
    with pytest.raises(AttributeError, match=r"a read has no 'add'; use Database\.write"):
        await shelves.add_in_a_read("poems")


async def test_a_use_case_runs_in_a_thread_of_the_database(shelves: Shelves) -> None:
    assert (await shelves.thread()).startswith("database-write")


async def test_wrong_arguments_are_rejected(shelves: Shelves) -> None:
    # The type checker rejects these calls as well; otherwise it would report the unused comments.
    with pytest.raises(TypeError):
        await shelves.add()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        await shelves.add("poems", shelf=1)  # type: ignore[call-arg]
    assert await shelves.names() == []


def test_a_use_case_keeps_its_name_and_documentation() -> None:
    assert (Shelves.add.__name__, Shelves.add.__doc__) == ("add", "Add a shelf.")
