"""The small types: text, numbers in paths and queries, pages, and database addresses."""

import base64
import hashlib
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from chassis.database.url import UnusableDatabaseUrl, normalise
from chassis.http.paging import LARGEST_SKIP, NO_CURSOR, Limit, Skip, link_header, read_cursor, write_cursor
from chassis.ids import LARGEST_ID, RowId
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
    assert not accepts(Limit, text)
    assert not accepts(Skip, text)


@given(st.text(max_size=4))
def test_no_other_text_is_a_number(text: str) -> None:
    assert accepts(RowId, text) == (re.fullmatch("[0-9]+", text) is not None and int(text) > 0)


@pytest.mark.parametrize(
    ("text", "accepted"),
    [("0", False), ("-1", False), ("1", True), ("007", False), (str(LARGEST_ID), True), (str(LARGEST_ID + 1), False),
     ("9" * 5_000, False)],
)  # fmt: skip
def test_an_id_is_a_positive_number_of_64_bits(text: str, *, accepted: bool) -> None:
    assert accepts(RowId, text) == accepted


def test_a_page_has_its_range() -> None:
    assert [accepts(Limit, text) for text in ("0", "1", "100", "101")] == [False, True, True, False]
    assert [accepts(Skip, text) for text in ("-1", "0", "10000", "10001")] == [False, True, True, False]
    assert LARGEST_SKIP == 10_000


def test_a_link_header_leads_to_each_page_with_its_parameters() -> None:
    assert link_header("/books", next={"limit": 7, "q": "a&b ☕"}) == '</books?limit=7&q=a%26b+%E2%98%95>; rel="next"'
    both = link_header("/books", first={"limit": 7}, next={"cursor": "x"})
    assert both == '</books?limit=7>; rel="first", </books?cursor=x>; rel="next"'


POSITIONS: list[Any] = [0, "ß ☕", ["a", None], {"sort": "-price", "after": ["19.99", 7]}]


@pytest.mark.parametrize("position", POSITIONS, ids=str)
def test_a_cursor_is_read_as_what_was_written_and_is_fit_for_an_address(position: Any) -> None:
    cursor = write_cursor(position)
    assert read_cursor(cursor) == position
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)


def forged(content: bytes) -> str:
    """A cursor with this content and the right checksum: how that is made is no secret."""
    checksum = hashlib.sha256(b"cursor" + content).digest()[:6]
    return base64.urlsafe_b64encode(checksum + content).rstrip(b"=").decode()


CURSOR = write_cursor(POSITIONS[-1])
NO_CURSORS = {
    "nothing": "",
    "no base64": "!",
    "not ASCII": "é",
    "white space": f" {CURSOR}",
    "padding": f"{CURSOR}====",
    "a part": CURSOR[:-2],
    "mistyped": CURSOR[:20] + ("A" if CURSOR[20] != "A" else "B") + CURSOR[21:],
    "another checksum": base64.urlsafe_b64encode(bytes(6) + b"7").rstrip(b"=").decode(),
    "no content": forged(b""),
    "no JSON": forged(b"{"),
    "no UTF-8": forged(b'"\xff"'),
    "written otherwise": forged(b"[1, 2]"),
    "not a number": forged(b"NaN"),
    "a lone surrogate": forged(b'["\\ud800"]'),
    "a lone surrogate as a name": forged(b'{"\\udfff":1}'),
    "too deep": forged(b"[" * 100_000),
    "too long a number": forged(b"9" * 5_000),
}


@pytest.mark.parametrize("cursor", NO_CURSORS.values(), ids=NO_CURSORS.keys())
def test_what_was_not_written_here_is_no_cursor(cursor: str) -> None:
    assert read_cursor(forged(b"7")) == 7
    with pytest.raises(ValueError, match=NO_CURSOR):
        read_cursor(cursor)


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
