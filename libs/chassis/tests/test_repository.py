"""`chassis.database.repository` on a real database."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from testkit.library import Book, BookRepository, Holding, Library, Shelf, ShelfRepository, TitleTaken, rows, told

T = TypeVar("T")


def with_books(work: Callable[[BookRepository], T]) -> Callable[[Session], T]:
    return lambda session: work(BookRepository(session))


async def test_what_is_added_has_its_id_at_once(library: Library) -> None:
    assert await library.write(with_books(lambda books: books.add(Book(title="Faust")).id)) == 1


async def test_find_gives_the_row_or_none(library: Library) -> None:
    await library.write(with_books(lambda books: books.add(Book(title="Faust"))))
    for for_update in (False, True):
        found = await library.write(with_books(partial(BookRepository.find, row_id=1, for_update=for_update)))
        assert found is not None
        assert found.title == "Faust"
        assert await library.write(with_books(partial(BookRepository.find, row_id=2, for_update=for_update))) is None
    assert await library.read(with_books(lambda books: books.find(2**63 - 1))) is None


async def test_who_finds_a_row_for_update_makes_the_others_wait_so_that_no_change_is_lost(library: Library) -> None:
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
async def test_who_finds_a_row_for_update_finds_it_as_it_is_by_then(library: Library, library_url: str) -> None:
    await library.write(with_books(lambda books: books.add(Book(title="Faust"))))

    def look_twice(books: BookRepository) -> list[str]:
        first = books.find(1)
        assert first is not None
        titles = [first.title]
        with told(library_url) as somebody_else:
            somebody_else.exec_driver_sql("UPDATE books SET title = 'Faust II'")
        second = books.find(1, for_update=True)
        assert second is first
        return [*titles, second.title]

    assert await library.write(with_books(look_twice)) == ["Faust", "Faust II"]


@pytest.mark.postgresql
async def test_who_finds_a_row_without_that_waits_for_nobody(library: Library) -> None:
    await library.write(with_books(lambda books: books.add(Book(title="Faust"))))
    holding = Holding(lambda session: BookRepository(session).find(1, for_update=True))
    first = asyncio.create_task(library.write(holding))
    await holding.entered()
    book = await library.write(with_books(lambda books: books.find(1)))
    assert not first.done()
    holding.go_on()
    await first
    assert book is not None
    assert book.title == "Faust"


async def test_a_page_is_in_the_order_of_ids_and_has_its_bounds(library: Library) -> None:
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
async def test_a_page_goes_on_behind_a_place_in_the_order_of_a_column_and_the_id(
    library: Library, *, descending: bool
) -> None:
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


async def test_a_page_has_the_rows_that_meet_all_conditions(library: Library) -> None:
    def fill(books: BookRepository) -> None:
        for title in "abcde":
            books.add(Book(title=title))

    await library.write(with_books(fill))

    def find(books: BookRepository) -> list[str]:
        return [book.title for book in books.page(2, Book.title > "a", Book.title != "c", after=(2,))]

    assert await library.read(with_books(find)) == ["d", "e"]


async def test_what_is_removed_is_gone(library: Library, library_url: str) -> None:
    await library.write(with_books(lambda books: books.add(Book(title="Faust"))))

    def remove(books: BookRepository) -> None:
        book = books.find(1)
        assert book is not None
        books.remove(book)
        assert books.find(1) is None

    await library.write(with_books(remove))
    assert rows(library_url, "SELECT * FROM books") == []


async def test_a_violated_constraint_is_told_as_the_fact_that_it_stands_for(library: Library) -> None:
    await library.write(with_books(lambda books: books.add(Book(title="Faust"))))
    with pytest.raises(TitleTaken) as conflict:
        await library.write(with_books(lambda books: books.add(Book(title="Faust"))))
    assert isinstance(conflict.value.__cause__, IntegrityError)


async def test_a_change_that_violates_it_is_told_the_same(library: Library, library_url: str) -> None:
    await library.write(with_books(lambda books: (books.add(Book(title="Faust")), books.add(Book(title="Howl")))))

    def rename(books: BookRepository) -> None:
        book = books.find(2)
        assert book is not None
        book.title = "Faust"
        books.flush()

    with pytest.raises(TitleTaken):
        await library.write(with_books(rename))
    assert rows(library_url, "SELECT title FROM books ORDER BY id") == [("Faust",), ("Howl",)]


async def test_a_constraint_that_stands_for_nothing_passes_through(library: Library) -> None:
    await library.write(lambda session: ShelfRepository(session).add(Shelf(name="poems")))
    with pytest.raises(IntegrityError, match=r"shelves\.name|uq_shelves_name"):
        await library.write(lambda session: ShelfRepository(session).add(Shelf(name="poems")))
    # Of this table, but not the constraint that has a fact.
    with pytest.raises(
        IntegrityError,
        match=r'NOT NULL constraint failed: books\.title|column "title" of relation "books" violates not-null',
    ):
        await library.write(with_books(lambda books: books.add(Book())))


async def test_a_column_whose_name_begins_like_anothers_is_not_taken_for_it(library: Library) -> None:
    class Confused(ShelfRepository):
        conflicts = {"shelves.nam": TitleTaken}  # noqa: RUF012 - a test's own

    await library.write(lambda session: Confused(session).add(Shelf(name="poems")))
    with pytest.raises(IntegrityError):
        await library.write(lambda session: Confused(session).add(Shelf(name="poems")))


async def test_a_subclass_narrows_all_finding_with_its_base_statement(library: Library) -> None:
    class Unshelved(BookRepository):
        def base(self) -> Select[Book]:
            return select(Book).where(Book.shelf_id.is_(None))

    def fill(session: Session) -> None:
        shelf = ShelfRepository(session).add(Shelf(name="poems"))
        BookRepository(session).add(Book(title="Howl", shelf_id=shelf.id))
        BookRepository(session).add(Book(title="Lost"))

    await library.write(fill)
    assert await library.read(lambda session: Unshelved(session).find(1)) is None
    assert [book.title for book in await library.read(lambda session: Unshelved(session).page(9))] == ["Lost"]
