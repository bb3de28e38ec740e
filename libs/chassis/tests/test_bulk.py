"""Rows that are written in bulk, on real databases."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from sqlalchemy import func, select

from testkit.library import Book, BookRepository, Library, Shelf, ShelfRepository, TitleTaken

T = TypeVar("T")

TEXTS = [
    *(
        "",
        " ",
        "Faust",
        "NULL",
        "null",
        "\\N",
        "\\",
        "\\\\",
        '"',
        '""',
        "'",
        "''",
        '\\"',
        "\\'",
        "{}",
        "{a,b}",
        ",",
        ", ",
    ),
    *("%", "%s", "%(title)s", ":title", "$1", "?", "line\nbreak", "\ttab", "é", "ﬁ", "漢字", "🙂", "\u200b", "x" * 50),
]


def with_books(work: Callable[[BookRepository], T]) -> Callable[[object], T]:
    return lambda session: work(BookRepository(session))  # type: ignore[arg-type]


async def titles(library: Library) -> dict[int, str]:
    rows = await library.read(lambda session: session.execute(select(Book.id, Book.title)).all())
    return {row.id: row.title for row in rows}


async def test_inserted_values_are_read_unchanged(library: Library) -> None:
    await library.write(lambda session: ShelfRepository(session).add(Shelf(name="plays")))

    def fill(books: BookRepository) -> list[int]:
        books.add(Book(title="first"))
        ids = books.next_ids(len(TEXTS))
        rows = [{"id": book_id, "title": title} for book_id, title in zip(ids, TEXTS, strict=True)]
        books.insert_many(rows, {"shelf_id": 1})
        books.insert_many([{"title": f"unnumbered {number}", "shelf_id": number} for number in (1, None)], {})
        books.insert_many([], {"shelf_id": 1})
        return list(ids)

    ids = await library.write(with_books(fill))
    assert ids == list(range(2, len(TEXTS) + 2))
    found = await titles(library)
    assert [found[book_id] for book_id in ids] == TEXTS
    assert len(found) == len(TEXTS) + 3
    shelves = select(func.count()).select_from(Book).where(Book.shelf_id == 1)
    assert await library.read(lambda session: session.scalar(shelves)) == len(TEXTS) + 1


async def test_ids_are_not_reused(library: Library) -> None:
    def make(books: BookRepository) -> int:
        [book_id] = books.next_ids(1)
        books.insert_many([{"id": book_id, "title": f"Book {book_id}"}], {})
        return book_id

    assert await library.write(with_books(make)) == 1
    assert await library.write(with_books(lambda books: books.add(Book(title="Faust")).id)) == 2
    await library.write(with_books(lambda books: books.delete(books.find(2))))  # type: ignore[arg-type]
    assert await library.write(with_books(make)) == 3
    assert await library.write(with_books(lambda books: books.add(Book(title="Faust")).id)) == 4


async def test_rows_are_updated_where_all_keys_match(library: Library) -> None:
    await library.write(lambda session: ShelfRepository(session).add(Shelf(name="plays")))

    def change(books: BookRepository) -> int:
        for title in ("a", "b", "c"):
            books.add(Book(title=title))
        rows = [
            {"id": 1, "title": "a", "shelf_id": 1},
            {"id": 2, "title": "x", "shelf_id": 1},
            {"id": 3, "title": "c", "shelf_id": None},
        ]
        return books.update_many(rows, ("id", "title"), {})

    assert await library.write(with_books(change)) == 2
    found = await library.read(
        lambda session: session.execute(select(Book.title, Book.shelf_id).order_by(Book.id)).all()
    )
    assert [tuple(row) for row in found] == [("a", 1), ("b", None), ("c", None)]

    def lengthen(books: BookRepository) -> int:
        return books.update_many(
            [{"id": 1, "shelf_id": None}, {"id": 9, "shelf_id": 1}], ("id",), {"title": Book.title + "!"}
        )

    assert await library.write(with_books(lengthen)) == 1
    assert await titles(library) == {1: "a!", 2: "b", 3: "c"}


@pytest.mark.parametrize("operation", ["insert", "update"])
async def test_violated_constraint_is_the_domain_error(library: Library, operation: str) -> None:
    def fill(books: BookRepository) -> None:
        books.add(Book(title="a"))
        books.add(Book(title="b"))

    await library.write(with_books(fill))

    def violate(books: BookRepository) -> None:
        if operation == "insert":
            books.insert_many([{"title": "c"}, {"title": "a"}], {})
        else:
            books.update_many([{"id": 2, "title": "a"}], ("id",), {})

    with pytest.raises(TitleTaken):
        await library.write(with_books(violate))
    assert await titles(library) == {1: "a", 2: "b"}


@pytest.mark.postgresql
async def test_text_that_is_too_long_is_not_cut(library: Library) -> None:
    with pytest.raises(Exception, match="too long"):
        await library.write(with_books(lambda books: books.insert_many([{"title": "x" * 51}], {})))
