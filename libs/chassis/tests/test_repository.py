"""`chassis.database.repository` on a real database."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from chassis.database.models import Numbered
from chassis.database.repository import BaseRepository
from testkit.library import (
    BlockedWork,
    Book,
    BookRepository,
    Library,
    Shelf,
    ShelfRepository,
    TitleTaken,
    connection_to,
    rows,
)

T = TypeVar("T")


def with_books(work: Callable[[BookRepository], T]) -> Callable[[Session], T]:
    return lambda session: work(BookRepository(session))


async def test_add_assigns_the_id(library: Library) -> None:
    assert await library.write(with_books(lambda books: books.add(Book(title="Faust")).id)) == 1


async def test_find_returns_the_row_or_none(library: Library) -> None:
    await library.write(with_books(lambda books: books.add(Book(title="Faust"))))
    for for_update in (False, True):
        found = await library.write(with_books(partial(BookRepository.find, row_id=1, for_update=for_update)))
        assert found is not None
        assert found.title == "Faust"
        assert await library.write(with_books(partial(BookRepository.find, row_id=2, for_update=for_update))) is None
    assert await library.read(with_books(lambda books: books.find(2**63 - 1))) is None


async def test_find_for_update_prevents_lost_updates(library: Library) -> None:
    await library.write(with_books(lambda books: books.add(Book(title=""))))

    def lengthen(books: BookRepository) -> None:
        book = books.find(1, for_update=True)
        assert book is not None
        book.title += "x"
        books.flush()

    await asyncio.gather(*(library.write(with_books(lengthen)) for _ in range(20)))
    book = await library.read(with_books(lambda books: books.find(1)))
    assert book is not None
    assert book.title == "x" * 20


@pytest.mark.postgresql
async def test_find_for_update_reloads_the_row(library: Library, library_url: str) -> None:
    await library.write(with_books(lambda books: books.add(Book(title="Faust"))))

    def look_twice(books: BookRepository) -> list[str]:
        first = books.find(1)
        assert first is not None
        titles = [first.title]
        with connection_to(library_url) as other:
            other.exec_driver_sql("UPDATE books SET title = 'Faust II'")
        second = books.find(1, for_update=True)
        assert second is first
        return [*titles, second.title]

    assert await library.write(with_books(look_twice)) == ["Faust", "Faust II"]


@pytest.mark.postgresql
async def test_a_plain_find_does_not_wait_for_locks(library: Library) -> None:
    await library.write(with_books(lambda books: books.add(Book(title="Faust"))))
    blocked = BlockedWork(lambda session: BookRepository(session).find(1, for_update=True))
    first = asyncio.create_task(library.write(blocked))
    await blocked.entered()
    book = await library.write(with_books(lambda books: books.find(1)))
    assert not first.done()
    blocked.release()
    await first
    assert book is not None
    assert book.title == "Faust"


async def test_pages_are_ordered_by_id(library: Library) -> None:
    def fill(books: BookRepository) -> None:
        for number in range(5, 0, -1):
            books.add(Book(title=f"Book {number}"))

    await library.write(with_books(fill))

    async def page(skip: int, limit: int) -> list[int]:
        return [book.id for book in await library.read(with_books(lambda books: books.page(limit, skip=skip)))]

    assert await page(0, 3) == [1, 2, 3]
    assert await page(3, 3) == [4, 5]
    assert await page(5, 3) == []
    assert await page(0, 100) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("descending", [False, True])
async def test_pages_continue_after_a_position(library: Library, *, descending: bool) -> None:
    shelf_ids = [2, 1, 2, 3, 1, 2]

    def fill(session: Session) -> None:
        for name in "123":
            ShelfRepository(session).add(Shelf(name=name))
        for number, shelf_id in enumerate(shelf_ids):
            BookRepository(session).add(Book(title=f"Book {number}", shelf_id=shelf_id))

    await library.write(fill)
    expected = sorted(zip(shelf_ids, range(1, 7), strict=True), reverse=descending)
    seen: list[tuple[int | None, int]] = []
    while True:
        after = seen[-1] if seen else None
        page = await library.read(
            with_books(partial(BookRepository.page, limit=2, by=Book.shelf_id, descending=descending, after=after))
        )
        if not page:
            break
        seen += [(book.shelf_id, book.id) for book in page]
    assert seen == expected


async def test_pages_are_filtered_by_all_conditions(library: Library) -> None:
    def fill(books: BookRepository) -> None:
        for title in "abcde":
            books.add(Book(title=title))

    await library.write(with_books(fill))

    def find(books: BookRepository) -> list[str]:
        return [book.title for book in books.page(2, Book.title > "a", Book.title != "c", after=(2,))]

    assert await library.read(with_books(find)) == ["d", "e"]


async def test_delete_deletes_the_row(library: Library, library_url: str) -> None:
    await library.write(with_books(lambda books: books.add(Book(title="Faust"))))

    def delete(books: BookRepository) -> None:
        book = books.find(1)
        assert book is not None
        books.delete(book)
        assert books.find(1) is None

    await library.write(with_books(delete))
    assert rows(library_url, "SELECT * FROM books") == []


async def test_a_violated_constraint_raises_its_domain_error(library: Library) -> None:
    await library.write(with_books(lambda books: books.add(Book(title="Faust"))))
    with pytest.raises(TitleTaken) as conflict:
        await library.write(with_books(lambda books: books.add(Book(title="Faust"))))
    assert isinstance(conflict.value.__cause__, IntegrityError)


async def test_a_change_that_violates_a_constraint_raises_its_domain_error(library: Library, library_url: str) -> None:
    await library.write(with_books(lambda books: (books.add(Book(title="Faust")), books.add(Book(title="Howl")))))

    def rename(books: BookRepository) -> None:
        book = books.find(2)
        assert book is not None
        book.title = "Faust"
        books.flush()

    with pytest.raises(TitleTaken):
        await library.write(with_books(rename))
    assert rows(library_url, "SELECT title FROM books ORDER BY id") == [("Faust",), ("Howl",)]


async def test_unmapped_constraints_raise_integrity_error(library: Library) -> None:
    await library.write(lambda session: ShelfRepository(session).add(Shelf(name="poems")))
    with pytest.raises(IntegrityError, match=r"shelves\.name|uq_shelves_name"):
        await library.write(lambda session: ShelfRepository(session).add(Shelf(name="poems")))
    # A constraint of the right table, but not the one with a domain error.
    with pytest.raises(
        IntegrityError,
        match=r'NOT NULL constraint failed: books\.title|column "title" of relation "books" violates not-null',
    ):
        await library.write(with_books(lambda books: books.add(Book())))


async def test_column_names_are_not_matched_by_prefix(library: Library) -> None:
    class Confused(ShelfRepository):
        conflicts = {"shelves.nam": TitleTaken}  # noqa: RUF012 - used in this test only

    await library.write(lambda session: Confused(session).add(Shelf(name="poems")))
    with pytest.raises(IntegrityError):
        await library.write(lambda session: Confused(session).add(Shelf(name="poems")))


def test_columns_that_a_row_hides_are_refused() -> None:
    class Empty(DeclarativeBase):
        pass

    class Shadowed(Numbered, Empty):
        __tablename__ = "shadowed"
        count: Mapped[int]

    with pytest.raises(TypeError, match="rename the columns count of Shadowed"):
        type("Repository", (BaseRepository,), {"model": Shadowed})


async def test_a_base_statement_restricts_all_queries(library: Library) -> None:
    class Unshelved(BookRepository):
        @classmethod
        def base(cls) -> Select[Book]:
            return select(Book).where(Book.shelf_id.is_(None))

    def fill(session: Session) -> None:
        shelf = ShelfRepository(session).add(Shelf(name="poems"))
        BookRepository(session).add(Book(title="Howl", shelf_id=shelf.id))
        BookRepository(session).add(Book(title="Lost"))

    await library.write(fill)
    assert await library.read(lambda session: Unshelved(session).find(1)) is None
    assert [book.title for book in await library.read(lambda session: Unshelved(session).page(9))] == ["Lost"]
