"""`chassis.http.bodies`, through a real request: what is decoded, and which errors are raised."""

import gzip
import json
from collections.abc import AsyncIterator, Iterable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from chassis import json_decoding
from chassis.http import bodies

LIMIT = 1_000


class _Stream:
    """The server's side of a request body; counts the chunks that were read."""

    def __init__(self, chunks: Iterable[bytes], *, disconnects: bool = False) -> None:
        self._chunks = list(chunks)
        self._disconnects = disconnects
        self.taken = 0

    async def receive(self) -> Message:
        if self.taken < len(self._chunks):
            self.taken += 1
            more = self._disconnects or self.taken < len(self._chunks)
            return {"type": "http.request", "body": self._chunks[self.taken - 1], "more_body": more}
        if self._disconnects:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}


def _request(stream: _Stream, headers: dict[str, str]) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, stream.receive)


async def read(
    *chunks: bytes,
    content_type: str | None = bodies.JSON,
    accepted: Iterable[str] = (bodies.JSON,),
    limit: int = LIMIT,
    length: str | None = None,
    headers: dict[str, str] | None = None,
) -> Any:
    headers = {**(headers or {}), **({} if content_type is None else {"content-type": content_type})}
    if length is not None:
        headers["content-length"] = length
    return await bodies.read(_request(_Stream(chunks), headers), limit, accepted)


async def read_form(text: bytes) -> Any:
    return await read(text, content_type=bodies.FORM, accepted=(bodies.JSON, bodies.FORM))


async def rejected(*chunks: bytes, **options: Any) -> HTTPException:
    with pytest.raises(HTTPException) as error:
        await read(*chunks, **options)
    return error.value


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (b"null", None),
        (b"true", True),
        (b"[]", []),
        (b'{"a": {"b": [1, -2]}}', {"a": {"b": [1, -2]}}),
        (b"9223372036854775808", 2**63),
        ('"Zoë ☕"'.encode(), "Zoë ☕"),
        (b'"\\u00e9"', "é"),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\uD83D\\uDE00"', "😀"),
        (b'{"\\ud83d\\ude00": "\\ud83d\\ude00"}', {"😀": "😀"}),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"\\\\\\\\ud800"', "\\\\ud800"),
        (b'{"\\\\ud800": 1}', {"\\ud800": 1}),
        (b'"\\u0000"', "\x00"),
        (b" \n{}\t", {}),
    ],
)
async def test_json_is_decoded(text: bytes, meaning: object) -> None:
    assert await read(text) == meaning


@pytest.mark.parametrize(
    "number", ["19.990000000000000000001", "0.1", "-0.0", "1e2", "1E-30", "1e400", "12345678901234567890.5"]
)
async def test_non_integers_are_exact_decimals(number: str) -> None:
    decoded = await read(number.encode())
    assert isinstance(decoded, Decimal)
    assert str(decoded) == str(Decimal(number))


@pytest.mark.parametrize("number", ["0", "-1", "20"])
async def test_integers_are_integers(number: str) -> None:
    decoded = await read(number.encode())
    assert isinstance(decoded, int)
    assert decoded == int(number)


@pytest.mark.parametrize(
    "text",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'{"price": NaN}',
        b'[1, {"price": -Infinity}]',
        b'"\\ud800"',
        b'"\\uDFFF"',
        b'"\\ude00\\ud83d"',
        b'"a\\ud800b"',
        b'"\\\\\\ud800"',
        b'{"\\ud800": 1}',
        b'{"a": [{"b": "\\udc00"}]}',
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "\\u0061": 1}',
        b'[{"deep": {"a": 1, "a": 1}}]',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5_000,
        b"-" + b"9" * 5_000,
        b"1e99999999999999999999",
        b"1e999999999",
        b"1e-999999999",
        b"0e999999999",
        b"0.5e5000",
        b"\xff",
        b'"\xe9"',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        '{"a": 1}'.encode("utf-16"),
        b"{",
        b"{}{}",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"1_000",
        b"nan",
        b"True",
        b" ",
        b'"line\nbreak"',
        b'"\\x41"',
        b"\x00",
    ],
)
async def test_invalid_or_inexact_json_is_a_400(text: bytes) -> None:
    error = await rejected(text, limit=1_000_000)
    assert error.status_code == 400
    assert error.detail.startswith("The body is ")
    assert "Traceback" not in error.detail


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"NaN", "NaN is not a JSON number"),
        (b'"\\ud800"', "a string has a lone surrogate"),
        (b'{"a": 1, "a": 2}', "an object has the key 'a' twice"),
        (b'{"a": 1, "b": {"\\ud800": 1, "\\ud800": 2}}', "an object has the key '\\ud800' twice"),
        (b"9" * 5_000, "a number is too long"),
        (b"1e99999", "a number is too long"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "The body begins with a byte order mark (U+FEFF). Send UTF-8 without one."),
        (b'{"a": }', "Expecting value at character 6"),
    ],
)
async def test_a_400_says_why(text: bytes, reason: str) -> None:
    assert reason in (await rejected(text, limit=1_000_000)).detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=10,
)


@given(json_values, st.booleans())
def test_json_without_surrogates_survives_a_round_trip(value: Any, escaped: bool) -> None:  # noqa: FBT001 - Hypothesis gives it
    assert json_decoding.decode_json(json.dumps(value, ensure_ascii=escaped)) == value


whole_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@given(whole_text, st.characters(categories=["Cs"]), whole_text)
def test_lone_surrogates_are_rejected_in_values_and_keys(before: str, surrogate: str, after: str) -> None:
    text = before + surrogate + after
    for body in (json.dumps(text), json.dumps([{"a": [text]}]), json.dumps({"a": {text: 1}})):
        with pytest.raises(json_decoding.NotJson, match="a string has a lone surrogate"):
            json_decoding.decode_json(body)


async def test_a_missing_body_differs_from_null() -> None:
    assert await read() is bodies.EMPTY
    assert await read(b"", b"", content_type="text/plain") is bodies.EMPTY
    assert await read(b"null") is None


async def test_a_body_of_the_maximum_size_is_read() -> None:
    text = b'"' + b"x" * (LIMIT - 2) + b'"'
    assert await read(text, length=str(len(text))) == "x" * (LIMIT - 2)


async def test_a_large_content_length_is_a_413_before_reading() -> None:
    stream = _Stream([b"x" * (LIMIT + 1)])
    request = _request(stream, {"content-length": str(LIMIT + 1)})
    with pytest.raises(HTTPException) as error:
        await bodies.read(request, LIMIT)
    assert error.value.status_code == 413
    assert str(LIMIT) in error.value.detail
    assert stream.taken == 0


async def test_a_large_chunked_body_is_a_413_at_the_limit() -> None:
    stream = _Stream([b"x" * 400] * 100)
    with pytest.raises(HTTPException) as error:
        await bodies.read(_request(stream, {"content-type": bodies.JSON}), LIMIT)
    assert error.value.status_code == 413
    assert stream.taken == 3


async def test_a_body_longer_than_its_content_length_is_a_413() -> None:
    assert (await rejected(b"x" * LIMIT, b"x", length="10")).status_code == 413


async def test_a_client_disconnect_is_a_400() -> None:
    stream = _Stream([b'{"a":'], disconnects=True)
    with pytest.raises(HTTPException) as error:
        await bodies.read(_request(stream, {"content-type": bodies.JSON}), LIMIT)
    assert error.value.status_code == 400


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "APPLICATION/JSON",
        "Application/Json ; charset=utf-8",
    ],
)
async def test_content_type_ignores_parameters_and_case(content_type: str) -> None:
    assert await read(b"{}", content_type=content_type) == {}


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "text/json", "application/jsonp", "application/xml", bodies.FORM, "json", "*/*"],
)
async def test_another_or_no_content_type_is_a_415(content_type: str | None) -> None:
    error = await rejected(b"{}", content_type=content_type)
    assert error.status_code == 415
    assert error.detail == "The Content-Type must be application/json."


async def test_413_comes_before_415_and_415_before_400() -> None:
    assert (await rejected(b"\xff" * (LIMIT + 1), content_type="text/plain")).status_code == 413
    assert (await rejected(b"\xff", content_type="text/plain")).status_code == 415
    assert (await rejected(b"\xff")).status_code == 400


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (b"username=ada&password=a+b", {"username": "ada", "password": "a b"}),
        (b"a=&b=1", {"a": "", "b": "1"}),
        (b"a=%C3%A9", {"a": "é"}),
        ("a=é".encode(), {"a": "é"}),
        (b"a=1=2", {"a": "1=2"}),
        (b"a=%26%3D%2B", {"a": "&=+"}),
        # As in the URL standard, a percent sign that starts no escape stays as it is.
        (b"a=100%25&b=100%&c=%zz", {"a": "100%", "b": "100%", "c": "%zz"}),
        (b"a=1;b=2", {"a": "1;b=2"}),
        (b"a=%00", {"a": "\x00"}),
        # As well, empty parts are skipped, and a bare name has an empty value.
        (b"a=1&", {"a": "1"}),
        (b"&a=1", {"a": "1"}),
        (b"a=1&&b=2", {"a": "1", "b": "2"}),
        (b"a", {"a": ""}),
        (b"a&b=1", {"a": "", "b": "1"}),
        (b"=1", {"": "1"}),
        (b"&", {}),
        (b"&".join(b"f%d=1" % number for number in range(100)), {f"f{number}": "1" for number in range(100)}),
    ],
)
async def test_a_form_is_decoded(text: bytes, fields: dict[str, str]) -> None:
    assert await read_form(text) == fields


@pytest.mark.parametrize(
    "text",
    [
        b"a=1&a=2",
        b"a=1&%61=1",
        b"a=%FF",
        b"%FF=a",
        b"a=%ED%A0%80",
        b"a=%C3",
        b"a=\xff",
        b"a&a",
        b"&".join(b"f%d=1" % number for number in range(101)),
    ],
)
async def test_a_malformed_form_is_a_400(text: bytes) -> None:
    with pytest.raises(HTTPException) as error:
        await read_form(text)
    assert error.value.status_code == 400


async def test_a_form_with_a_field_twice_is_a_400_that_names_it() -> None:
    for form, name in ((b"a=1&%C3%A9=2&%C3%A9=3", "'é'"), (b"x" * 300 + b"&" + b"x" * 300, f"'{'x' * 100}'")):
        error = await rejected(form, content_type=bodies.FORM, accepted=(bodies.FORM,))
        assert (error.status_code, error.detail) == (400, f"The form has the field {name} twice.")


async def test_a_form_with_a_byte_order_mark_is_a_400() -> None:
    error = await rejected(b"\xef\xbb\xbfa=1", content_type=bodies.FORM, accepted=(bodies.FORM,))
    assert (error.status_code, "byte order mark" in error.detail) == (400, True)


@pytest.mark.parametrize("media_type", [bodies.JSON, bodies.FORM])
@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "GZIP", "unknown"])
async def test_a_compressed_body_is_a_415_that_names_the_header(media_type: str, coding: str) -> None:
    for content in (gzip.compress(b"{}"), b"{}"):
        error = await rejected(
            content, content_type=media_type, accepted=(bodies.JSON, bodies.FORM), headers={"content-encoding": coding}
        )
        assert (error.status_code, error.headers) == (415, {"Accept-Encoding": "identity"})
        assert "Content-Encoding" in error.detail


async def test_the_coding_identity_is_no_coding() -> None:
    assert await read(b"{}", headers={"content-encoding": "Identity"}) == {}
    assert await read(b"", headers={"content-encoding": "gzip"}) is bodies.EMPTY


async def test_json_and_forms_can_both_be_accepted() -> None:
    accepted = (bodies.JSON, bodies.FORM)
    assert await read(b'{"a": 1}', accepted=accepted) == {"a": 1}
    error = await rejected(b"a=1", content_type="text/plain", accepted=accepted)
    assert error.detail == "The Content-Type must be application/json or application/x-www-form-urlencoded."


async def test_chunks_are_joined_before_decoding() -> None:
    text = '{"naïve": "☕"}'.encode()
    assert await read(*(text[place : place + 1] for place in range(len(text)))) == {"naïve": "☕"}


async def test_an_endless_body_is_a_413() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    source = endless()

    async def receive() -> Message:
        return {"type": "http.request", "body": await anext(source), "more_body": True}

    with pytest.raises(HTTPException) as error:
        await bodies.read(Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive), 10)
    assert error.value.status_code == 413


async def test_an_object_with_too_many_fields_is_a_400() -> None:
    fits = json.dumps({str(number): 1 for number in range(100)}).encode()
    too_many = json.dumps({str(number): 1 for number in range(101)}).encode()
    assert len(await read(fits)) == 100
    error = await rejected(too_many)
    assert (error.status_code, "more than 100 fields" in error.detail) == (400, True)


@pytest.mark.parametrize("value", [b"{}", b"0.1"])
async def test_a_text_with_too_many_objects_and_fractions_is_a_400(value: bytes) -> None:
    fits = b"[" + b",".join([value] * 1_000) + b"]"
    assert len(await read(fits, limit=10_000)) == 1_000
    error = await rejected(fits[:-1] + b"," + value + b"]", limit=10_000)
    assert (error.status_code, "more than 1000 objects and fractions" in error.detail) == (400, True)
