"""`chassis.text`, `chassis.ids`, `chassis.http.paging` and `chassis.database.url`."""

import base64
import hashlib
import re
import sys
import unicodedata
from functools import cache
from typing import Annotated, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy import make_url

from chassis.database.url import UnusableDatabaseUrl, normalise, without_secrets
from chassis.http.paging import INVALID_CURSOR, LARGEST_SKIP, Limit, Skip, link_header, read_cursor, write_cursor
from chassis.ids import LARGEST_ID, RowId
from chassis.text import Line, Lines, NotBlank
from chassis.validation import invalid

# White space in ECMA-262, whose regular expressions JSON Schema uses.
_WHITE = "\t\n\v\f\r \u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000\ufeff"
_odd = st.sampled_from("\x00\t\n\r\x1b\x1c\x7f\x85\x9f \u00a0\u2028\u200b\ufeff\u0600é😀")
# Unicode's Default_Ignorable_Code_Point, and the empty pattern of Braille.
_IGNORABLE = {
    *("\u00ad", "\u034f", "\u061c", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u2800", "\u3164", "\ufeff", "\uffa0"),
    *(
        chr(number)
        for first, last in (
            *((0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0xFE00, 0xFE0F)),
            *((0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
        )
        for number in range(first, last + 1)
    ),
}
texts = st.text(st.one_of(_odd, st.characters(exclude_categories=["Cs"])), max_size=6)


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def accepts(kind: Any, value: object) -> bool:
    try:
        adapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def as_ecmascript(pattern: str) -> re.Pattern[str]:
    """The pattern as ECMAScript interprets it: `$` matches only at the end, and \\s has its own white space."""
    return re.compile(pattern.removesuffix("$").replace(r"\s", _WHITE) + r"\Z")


def is_invisible(character: str) -> bool:
    return character in _WHITE or character in _IGNORABLE or unicodedata.category(character) in ("Cc", "Cf")


@given(texts)
@example("\u2800\ufe0f")
@example("a\n")
@example("\ufeff")
@example("\u2028")
@example("\x85")
@example("")
def test_text_types_accept_what_their_schema_accepts(text: str) -> None:
    # The schema can't name characters beyond U+FFFF.
    text = "".join(each for each in text if each < "\U00010000" or not is_invisible(each))
    for kind in (Line, Lines, NotBlank):
        schema = adapter(kind).json_schema()
        assert accepts(kind, text) == bool(as_ecmascript(schema["pattern"]).search(text)), (kind, text)


@given(texts)
def test_each_text_type_has_its_allowed_characters(text: str) -> None:
    control = {character for character in text if unicodedata.category(character) == "Cc"}
    assert accepts(Line, text) == (not control)
    assert accepts(Lines, text) == (control <= {"\t", "\n", "\r"})
    assert accepts(NotBlank, text) == (not control and not all(map(is_invisible, text)))


def test_line_of_invisible_characters_is_blank() -> None:
    invisible = [each for each in map(chr, range(sys.maxunicode)) if is_invisible(each)]
    assert len(invisible) > 4_000
    for each in invisible:
        assert not accepts(NotBlank, each), f"U+{ord(each):04X}"
        assert not accepts(NotBlank, f" {each}\u200b{each}")
    assert all(accepts(NotBlank, text) for text in ("\u200bx", "👩\u200d🚀", "❤\ufe0f", "\u0301", "机", "."))


@pytest.mark.parametrize("value", [1, None, b"bytes", ["a"], True])
def test_text_types_accept_only_strings(value: object) -> None:
    for kind in (Line, Lines, NotBlank):
        assert not accepts(kind, value)


def test_text_is_not_changed() -> None:
    text = "  e\u0301 \u00a0 ﬁ  "
    assert TypeAdapter(NotBlank).validate_python(text) == text


def test_no_message_is_a_regular_expression() -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(Annotated[str, Field(pattern="^[a-z]+$")]).validate_python("A")
    (error,) = invalid(raised.value).errors
    assert error.detail == "The text does not have the expected form"


def test_text_types_have_their_own_messages() -> None:
    with pytest.raises(ValidationError, match="This must not be blank"):
        TypeAdapter(NotBlank).validate_python(" ")
    with pytest.raises(ValidationError, match="Control characters and line breaks are not allowed"):
        TypeAdapter(NotBlank).validate_python("a\x00")


@pytest.mark.parametrize(
    "text",
    ["1_0", " 7", "7 ", "+1", "1.0", "1e1", "٣", "\uff17", "²", "", "-", "--1", "0x1", "1\n", "null", "true", "NaN"],
)
def test_numbers_in_urls_contain_only_digits(text: str) -> None:
    assert not accepts(RowId, text)
    assert not accepts(Limit, text)
    assert not accepts(Skip, text)


@given(st.text(max_size=4))
def test_only_positive_digits_are_ids(text: str) -> None:
    assert accepts(RowId, text) == (re.fullmatch("[1-9][0-9]*", text) is not None)


@pytest.mark.parametrize(
    ("text", "accepted"),
    [("0", False), ("-1", False), ("1", True), ("007", False), (str(LARGEST_ID), True), (str(LARGEST_ID + 1), False),
     ("9" * 5_000, False)],
)  # fmt: skip
def test_ids_are_positive_64_bit_numbers(text: str, *, accepted: bool) -> None:
    assert accepts(RowId, text) == accepted


def test_limit_and_skip_have_a_range() -> None:
    assert [accepts(Limit, text) for text in ("0", "1", "100", "101")] == [False, True, True, False]
    assert [accepts(Skip, text) for text in ("-1", "0", "10000", "10001")] == [False, True, True, False]
    assert LARGEST_SKIP == 10_000


def test_a_link_header_has_each_page_with_its_parameters() -> None:
    assert link_header("/books", next={"limit": 7, "q": "a&b ☕"}) == '</books?limit=7&q=a%26b+%E2%98%95>; rel="next"'
    both = link_header("/books", first={"limit": 7}, next={"cursor": "x"})
    assert both == '</books?limit=7>; rel="first", </books?cursor=x>; rel="next"'


POSITIONS: list[Any] = [0, "ß ☕", ["a", None], {"sort": "-price", "after": ["19.99", 7]}]


@pytest.mark.parametrize("position", POSITIONS, ids=str)
def test_cursors_survive_a_round_trip_and_are_url_safe(position: Any) -> None:
    cursor = write_cursor(position)
    assert read_cursor(cursor) == position
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)


def forged(content: bytes) -> str:
    """A cursor with this content and a correct checksum, which uses no secret."""
    checksum = hashlib.sha256(b"cursor" + content).digest()[:6]
    return base64.urlsafe_b64encode(checksum + content).rstrip(b"=").decode()


CURSOR = write_cursor(POSITIONS[-1])
INVALID_CURSORS = {
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


@pytest.mark.parametrize("cursor", INVALID_CURSORS.values(), ids=INVALID_CURSORS.keys())
def test_invalid_cursors_are_rejected(cursor: str) -> None:
    assert read_cursor(forged(b"7")) == 7
    with pytest.raises(ValueError, match=INVALID_CURSOR):
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
        ("postgresql://u:a,b@host/name", "postgresql+psycopg2://u:a%2Cb@host/name"),
        (
            "postgresql://u@host/name?target_session_attrs=read-write",
            "postgresql+psycopg2://u@host/name?target_session_attrs=primary",
        ),
        *(
            (typed, "postgresql+psycopg2://u:p@/name?host=h1%2Ch2&port=5432%2C5433&target_session_attrs=primary")
            for typed in (
                "postgresql://u:p@h1:5432,h2:5433/name?target_session_attrs=read-write",
                "postgres://u:p@h1,h2:5433/name",
                "postgresql://u:p@/name?host=h1:5432&host=h2:5433&target_session_attrs=primary",
                "postgresql+psycopg2://u:p@/name?host=h1,h2&port=5432,5433",
            )
        ),
        (
            "postgresql://[::1]:5433,h2/name",
            "postgresql+psycopg2:///name?host=%3A%3A1%2Ch2&port=5433%2C5432&target_session_attrs=primary",
        ),
        # A host as a parameter takes the place of the one before the name.
        *(
            (typed, "postgresql+psycopg2://u@/name?host=%2Frun%2Fpg&port=5433")
            for typed in ("postgresql://u@h0:5433/name?host=/run/pg", "postgresql://u@/name?host=/run/pg:5433")
        ),
    ],
)
def test_database_urls_get_the_installed_driver(typed: str, meant: str) -> None:
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
        "sqlite://h1,h2/hunter2",
        "postgresql://u:hunter2@h1,h2",
        "postgresql://u:hunter2@h1,/name",
        "postgresql://u:hunter2@h1:port,h2/name",
        "postgresql://u:hunter2@h1:0,h2/name",
        "postgresql://u:hunter2@h1,h2:65536/name",
        "postgresql://u:hunter2@h1,h2/name?host=h3",
        "postgresql://u:hunter2@h1/name?host=h2,h3",
        "postgresql://u:hunter2@h1,h 2/name",
        "postgresql://u:p@hunter2@h1/name",
        "postgresql://u:p@hunter2@h1,h2/name",
        "postgresql://u@/name?host=h1,h2&port=hunter2",
        "postgresql://u:hunter2@/name?host=h1,h2&port=1,2,3",
        "postgresql://u:hunter2@h1,h2/name?target_session_attrs=any",
        "postgresql://u:hunter2@h1/name?target_session_attrs=standby",
        "postgresql://u:hunter2@h1,h2/name?target_session_attrs=hunter2",
        "postgresql://u:hunter2@h1,h2/name?target_session_attrs=primary&target_session_attrs=any",
    ],
)
def test_unusable_database_urls_are_rejected_without_repeating_them(typed: str) -> None:
    with pytest.raises(UnusableDatabaseUrl) as raised:
        normalise(typed)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("typed", "role"),
    [
        ("postgresql://u:p@h1,h2/name", "prefer-standby"),
        ("postgresql://u:p@h1,h2/name?target_session_attrs=any", "any"),
        ("postgresql://u:p@h1/name?target_session_attrs=read-only", "standby"),
        ("postgresql://u:p@h1/name", None),
    ],
)
def test_urls_of_replicas_choose_a_replica(typed: str, role: str | None) -> None:
    assert make_url(normalise(typed, replica=True)).query.get("target_session_attrs") == role


@pytest.mark.parametrize(
    "typed", ["sqlite:///file.db", *(f"postgresql://h/name?target_session_attrs={role}" for role in ("primary", "x"))]
)
def test_urls_that_are_of_no_replica_are_rejected(typed: str) -> None:
    with pytest.raises(UnusableDatabaseUrl):
        normalise(typed, replica=True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hunter2@h1,h2:1/name?sslmode=require", "postgresql://u:***@h1:5432,h2:1/name"),
        ("postgresql://h1,h2/name", "postgresql://h1:5432,h2:5432/name"),
        ("postgresql://[::1],h2/name", "postgresql://[::1]:5432,h2:5432/name"),
        ("postgresql://u@h1/name?sslmode=require", "postgresql://u@h1/name"),
    ],
)
def test_database_urls_are_shown_with_all_hosts(url: str, shown: str) -> None:
    assert without_secrets(make_url(normalise(url))) == shown
