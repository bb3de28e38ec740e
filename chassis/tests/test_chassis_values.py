"""The small types: text, numbers in paths and queries, pages, and database addresses."""

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from chassis.database_url import UnusableDatabaseUrl, normalise
from chassis.models import LARGEST_ID
from chassis.paging import LARGEST_SKIP, Page, RowId, next_link
from chassis.text import Line, Lines, NotBlank

# What ECMA-262, whose regular expressions JSON Schema uses, takes for white space.
_WHITE = "\t\n\v\f\r \u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000\ufeff"
_odd = st.sampled_from("\x00\t\n\r\x1b\x1c\x7f\x85\x9f \u00a0\u2028\u200b\ufeff\u0600é😀")
texts = st.text(st.one_of(_odd, st.characters(exclude_categories=["Cs"])), max_size=6)


def accepts(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def as_ecmascript(pattern: str) -> re.Pattern[str]:
    """The pattern as a browser reads it: `$` is the very end, and \\s is ECMA's."""
    return re.compile(pattern.removesuffix("$").replace(r"\s", _WHITE) + r"\Z")


@given(texts)
@example("a\n")
@example("\ufeff")
@example("\u2028")
@example("\x85")
@example("")
def test_the_schema_of_a_text_type_agrees_with_what_is_accepted(text: str) -> None:
    for kind in (Line, Lines, NotBlank):
        schema = TypeAdapter(kind).json_schema()
        assert accepts(kind, text) == bool(as_ecmascript(schema["pattern"]).search(text)), (kind, text)


@given(texts)
def test_a_line_has_no_control_characters_lines_may_have_breaks_and_not_blank_has_something_to_see(text: str) -> None:
    control = {character for character in text if unicodedata.category(character) == "Cc"}
    assert accepts(Line, text) == (not control)
    assert accepts(Lines, text) == (control <= {"\t", "\n", "\r"})
    assert accepts(NotBlank, text) == (not control and bool(text.strip(_WHITE)))


@pytest.mark.parametrize("value", [1, None, b"bytes", ["a"], True])
def test_text_is_not_made_of_anything_else(value: object) -> None:
    for kind in (Line, Lines, NotBlank):
        assert not accepts(kind, value)


def test_text_comes_through_unchanged() -> None:
    text = "  e\u0301 \u00a0 ﬁ  "
    assert TypeAdapter(NotBlank).validate_python(text) == text


def test_a_text_type_says_what_is_wrong_in_its_own_words() -> None:
    with pytest.raises(ValidationError, match="This must not be blank"):
        TypeAdapter(NotBlank).validate_python(" ")
    with pytest.raises(ValidationError, match="Control characters are not allowed"):
        TypeAdapter(NotBlank).validate_python("a\x00")


@pytest.mark.parametrize(
    "text",
    ["1_0", " 7", "7 ", "+1", "1.0", "1e1", "٣", "\uff17", "²", "", "-", "--1", "0x1", "1\n", "null", "true", "NaN"],
)
def test_a_number_in_an_address_is_written_in_digits_and_nothing_else(text: str) -> None:
    assert not accepts(RowId, text)
    assert not accepts(Page, {"limit": text})
    assert not accepts(Page, {"skip": text})


@given(st.text(max_size=4))
def test_no_other_text_is_a_number(text: str) -> None:
    assert accepts(RowId, text) == (re.fullmatch("[0-9]+", text) is not None and int(text) > 0)


@pytest.mark.parametrize(
    ("text", "accepted"),
    [("0", False), ("-1", False), ("1", True), ("007", True), (str(LARGEST_ID), True), (str(LARGEST_ID + 1), False),
     ("9" * 5_000, False)],
)  # fmt: skip
def test_an_id_is_a_positive_number_of_64_bits(text: str, *, accepted: bool) -> None:
    assert accepts(RowId, text) == accepted


@pytest.mark.parametrize(
    ("page", "accepted"),
    [
        ({}, True),
        ({"skip": "0", "limit": "1"}, True),
        ({"skip": str(LARGEST_SKIP), "limit": "100"}, True),
        ({"skip": "-1"}, False),
        ({"skip": str(LARGEST_SKIP + 1)}, False),
        ({"limit": "0"}, False),
        ({"limit": "101"}, False),
        ({"page": "1"}, False),
    ],
)
def test_a_page_has_its_range(page: dict[str, str], *, accepted: bool) -> None:
    assert accepts(Page, page) == accepted


def test_the_link_leads_to_the_next_page_with_the_same_limit() -> None:
    assert next_link("/books", Page()) == '</books?skip=20&limit=20>; rel="next"'
    assert next_link("/books", Page(skip=3, limit=7)) == '</books?skip=10&limit=7>; rel="next"'


def test_the_link_keeps_the_other_parameters_of_the_query() -> None:
    class Search(Page):
        q: str = ""

    assert next_link("/books", Search(q="a&b ☕")) == '</books?skip=20&limit=20&q=a%26b+%E2%98%95>; rel="next"'


def test_there_is_no_link_beyond_what_skip_may_be() -> None:
    assert next_link("/books", Page(skip=LARGEST_SKIP - 20, limit=20)) is not None
    assert next_link("/books", Page(skip=LARGEST_SKIP - 19, limit=20)) is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("sqlite:///file.db", "sqlite:///file.db"),
        ("sqlite:////var/lib/file.db", "sqlite:////var/lib/file.db"),
        ("sqlite+pysqlite:///file.db", "sqlite:///file.db"),
        ("sqlite:///with space/100%25.db", "sqlite:///with space/100%25.db"),
        ("postgres://u:p@host/name", "postgresql+psycopg2://u:p@host/name"),
        ("postgresql://u:p@host:5433/name", "postgresql+psycopg2://u:p@host:5433/name"),
        ("postgresql+psycopg2://host/name", "postgresql+psycopg2://host/name"),
        (
            "postgresql://u:p%40%2F%3A@host/name?sslmode=require",
            "postgresql+psycopg2://u:p%40%2F%3A@host/name?sslmode=require",
        ),
    ],
)
def test_an_address_gets_the_driver_that_is_installed_and_keeps_its_password(typed: str, meant: str) -> None:
    assert normalise(typed) == meant
    assert normalise(meant) == meant


@pytest.mark.parametrize(
    "typed",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
        "sqlite:///file::memory:?cache=shared&uri=true",
        "mysql://u:hunter2@host/name",
        "postgresql+asyncpg://u:hunter2@host/name",
        "postgresql://u:hunter2@host",
        "postgresql://u:hunter2@host:port/name",
        "hunter2",
        "",
        "http://hunter2",
        "://hunter2",
    ],
)
def test_an_address_that_is_of_no_use_is_refused_without_being_repeated(typed: str) -> None:
    with pytest.raises(UnusableDatabaseUrl) as refusal:
        normalise(typed)
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
