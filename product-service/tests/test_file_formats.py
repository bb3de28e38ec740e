"""CSV and NDJSON: exact round trips, chunk by chunk parsing, and errors for each unreadable line."""

import csv
import io
import json
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Invalid
from product_service.domain import money
from product_service.domain.fields import EDITABLE_FIELDS, snapshot
from product_service.domain.labels import without_invisible
from product_service.files.formats import FORMATS
from product_service.files.options import ReadOptions, WriteOptions
from product_service.files.reader import (
    CUT_OFF,
    MAX_RECORD_SIZE,
    NO_BYTE_ORDER_MARK,
    NOT_UTF_8,
    UTF_32,
    WORKBOOK,
    Record,
)
from product_service.models import Product
from product_service.schemas import ProductCreate, ProductLine
from testkit.products import product


def read(name: str, *chunks: bytes, **options: Any) -> list[Record]:
    reader = FORMATS[name].reader(ReadOptions(**options))
    return [*(record for chunk in chunks for record in reader.feed(chunk)), *reader.end()]


HEADER = FORMATS["csv"].header(WriteOptions())


def csv_of(*products: Product, **options: bool) -> str:
    return FORMATS["csv"].serialize(products, WriteOptions(**options))


def summary(records: Iterable[Record]) -> list[tuple[int, Any]]:
    """The line number of each record, and its fields or errors."""
    return [(record.line, fields_or_errors(record.content)) for record in records]


def fields_or_errors(content: ProductLine | Invalid) -> Any:
    if isinstance(content, Invalid):
        return [f"{error.pointer or ''} {error.detail}".strip() for error in content.errors]
    return content.model_dump(exclude_unset=True)


def file_error(name: str, *chunks: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        read(name, *chunks)
    return caught.value.errors[0].detail


characters = st.characters(exclude_categories=["Cs", "Cc"])
awkward = st.sampled_from(["'", '"', ",", "=", "+", "-", "@", " ", "\u2028", "\ufeff", "\uff1d", "é", "💡"])
line = st.text(awkward | characters, max_size=12)
not_blank = line.map(lambda text: f"{text}x{text}")
# What spreadsheets convert.
converted = st.from_regex(r"0?[0-9]{1,14}([.,/-][0-9]{1,3})?(E[+-]?[0-9]{1,3})?", fullmatch=True)
not_blank = not_blank | converted.filter(str.strip)
labels = not_blank.map(without_invisible)
products = st.builds(
    product,
    id=st.integers(1, 2**63 - 1),
    name=not_blank,
    description=st.none() | st.text(awkward | characters | st.sampled_from("\n\r\t"), max_size=12),
    price=st.integers(1, 10**14 - 1).map(lambda number: Decimal(number) / 10_000),
    currency=st.sampled_from(["CLF", "UYW"]),  # With four decimals.
    quantity=st.integers(0, 2**31 - 1),
    sku=st.none() | labels,
    category=st.none() | labels,
)


def editable(stored: Product) -> dict[str, Any]:
    return {name: getattr(stored, name) for name in EDITABLE_FIELDS}


@given(
    st.lists(products, max_size=4),
    st.sampled_from(sorted(FORMATS)),
    st.builds(WriteOptions, include_id=st.booleans(), bom=st.booleans(), spreadsheet=st.booleans()),
    st.integers(1, 40),
)
def test_round_trip_is_exact_for_any_chunk_size(
    stored: list[Product], name: str, options: WriteOptions, size: int
) -> None:
    file_format = FORMATS[name]
    content = (file_format.header(options) + file_format.serialize(stored, options)).encode()
    chunks = [content[start : start + size] for start in range(0, len(content), size)]
    expected = [{"id": each.id, **editable(each)} if options.include_id else editable(each) for each in stored]
    assert [fields_or_errors(record.content) for record in read(name, *chunks)] == expected


@given(st.lists(products, max_size=4))
def test_standard_parsers_read_the_same_values(stored: list[Product]) -> None:
    rows = list(csv.reader(io.StringIO(HEADER + csv_of(*stored), newline="")))
    prices = [money.format_amount(each.price, each.currency) for each in stored]
    assert [row[EDITABLE_FIELDS.index("price")] for row in rows[1:]] == prices
    lines = FORMATS["ndjson"].serialize(stored, WriteOptions()).split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [snapshot(each) for each in stored]


def test_columns_are_the_fields_of_product_create() -> None:
    assert tuple(ProductCreate.model_fields) == EDITABLE_FIELDS
    assert HEADER == "name,description,price,currency,quantity,sku,category\r\n"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n@a", "\uff1d1", "'", "''", "'=1", "", "=", '="a"'],
)
def test_formulas_are_escaped_and_restored(text: str) -> None:
    written = csv_of(product(description=text))
    [row] = csv.reader(io.StringIO(written, newline=""))
    assert row[1] == f"'{text}"
    [record] = read("csv", HEADER.encode(), written.encode())
    assert fields_or_errors(record.content)["description"] == text


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        *[(cell, cell) for cell in ("'47 Brand Cap", "'n' Roll", "'s-Hertogenbosch", "' ", "\u2019a")],
        # Our export would have written these.
        *[("'", ""), ("''", "'"), ("''47", "'47"), ("'=1", "=1"), ("' -1", " -1")],
    ],
)
def test_apostrophes_of_other_programs_are_kept(cell: str, text: str) -> None:
    [record] = read("csv", f"sku,description\nA,{cell}\n".encode())
    assert fields_or_errors(record.content)["description"] == text


def test_null_and_empty_string_are_distinguished() -> None:
    written = csv_of(product(description=None), product(description=""))
    assert [row.split(",")[1] for row in written.splitlines()] == ["", "'"]
    assert "1.5" in csv_of(product(name="1.5", description="a=b, c-d"))
    assert "'1.5" not in csv_of(product(name="1.5"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # Missing columns keep their values; empty cells clear nullable fields and are omitted for the others.
        ("sku,quantity\nA,5", [(2, {"sku": "A", "quantity": 5})]),
        ("\ufeffsku, quantity \r\nA,5\r\n", [(2, {"sku": "A", "quantity": 5})]),
        ("sku,description,category,name\nA,,,\n", [(2, {"sku": "A", "description": None, "category": None})]),
        # Empty lines and rows of empty cells are skipped.
        ("sku,quantity\n\n,\r\nA,5\n\n", [(4, {"sku": "A", "quantity": 5})]),
        ('"sku"\n"a ""b"" c"\n', [(2, {"sku": 'a "b" c'})]),
        ('sku\n5" pipe\nB\n', [(2, {"sku": '5" pipe'}), (3, {"sku": "B"})]),
        # A record of several lines has the number of its first line.
        (
            'sku,description\nA,"one\r\n\ntwo"\nB,\n',
            [(2, {"sku": "A", "description": "one\r\n\ntwo"}), (5, {"sku": "B", "description": None})],
        ),
        # Other lines are read after an invalid one.
        ("sku\nA,B\nC\n", [(2, ["This line has 2 cells, but the header has 1"]), (3, {"sku": "C"})]),
        ('sku\n"A"B\nC\n', [(2, ["Not valid CSV: ',' expected after '\"'"]), (3, {"sku": "C"})]),
        ("sku,quantity\nA,1.5\n", [(2, ["/quantity Must be a whole number"])]),
        ("sku,quantity\nA,-1\n", [(2, ["/quantity Must be at least 0"])]),
        ("sku,quantity\nA,٣\n", [(2, ["/quantity Must be a whole number"])]),
        ("sku,quantity\nA,4000000000\n", [(2, ["/quantity Must be at most 2147483647"])]),
        (f"sku,quantity\nA,1{'0' * 99}\n", [(2, ["/quantity Must be at most 2147483647"])]),
        ("sku,price\nA,-1.50\n", [(2, ["/price A price can't be negative"])]),
        ("name,currency\n \u00a0,USD\n", [(2, ["/name This must not be blank"])]),
        # Empty columns, which spreadsheets add.
        (
            "sku,quantity,,\nA,5,,\nB,6\nC,7,8\n",
            [
                (2, {"sku": "A", "quantity": 5}),
                (3, {"sku": "B", "quantity": 6}),
                (4, ["This line has 3 cells, but the header has 2"]),
            ],
        ),
        ("sku\nA\rB\nC\n", [(2, ["Not valid CSV: a line ends with a carriage return only"]), (3, {"sku": "C"})]),
        # Line breaks inside quotation marks do not end a record, even if it is not UTF-8.
        ('sku,name\nA,"caf\udce9\nB,x\n"\nC,\n', [(2, [NOT_UTF_8]), (5, {"sku": "C"})]),
        ("sku\n" + "x" * 65 + "\n", [(2, ["/sku Must have at most 64 characters, not 65"])]),
    ],
)
def test_csv_records(content: str, expected: list[tuple[int, Any]]) -> None:
    assert summary(read("csv", content.encode(errors="surrogateescape"))) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", []),
        ("\ufeff\n  \n", []),
        (
            '{"sku": "A"}\r\n\n{"sku": "B", "price": 1.5}',
            [(1, {"sku": "A"}), (3, {"sku": "B", "price": Decimal("1.5")})],
        ),
        ('[1]\n{"sku": "A"}\n', [(1, ["Must be an object"]), (2, {"sku": "A"})]),
        ('{"sku": }\n', [(1, ["This is not valid JSON: Expecting value at character 8"])]),
        ('{"sku": "A", "sku": "B"}\n', [(1, ["This is not acceptable JSON: an object has the key 'sku' twice"])]),
        ('{"price": NaN}\n', [(1, ["This is not acceptable JSON: NaN is not a JSON number"])]),
        ('{"sku": "\\ud800"}\n', [(1, ["This is not acceptable JSON: a string has a lone surrogate"])]),
        ('{"id": 1, "owner_id": 1}\n', [(1, ["/owner_id Unknown field"])]),
        ('{"id": 0}\n{"id": "1"}', [(1, ["/id Must be at least 1"]), (2, ["/id Must be a whole number"])]),
        ('{"name": null}\n', [(1, ["/name Must be a string"])]),
        ('{"description": "\'=1"}\n', [(1, {"description": "'=1"})]),
    ],
)
def test_ndjson_records(content: str, expected: list[tuple[int, Any]]) -> None:
    assert summary(read("ndjson", content.encode())) == expected


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_line_that_is_not_utf_8_does_not_affect_others(name: str) -> None:
    good = {"csv": b"A", "ndjson": b'{"sku": "A"}'}[name]
    head = b"sku\n" if name == "csv" else b"\n"
    assert summary(read(name, head + b"\xff\n" + good)) == [(2, [NOT_UTF_8]), (3, {"sku": "A"})]


def test_overlong_ndjson_line_does_not_affect_others() -> None:
    content = b'{"sku": "A"}\n' + b"x" * (MAX_RECORD_SIZE + 1) + b'\n{"sku": "B"}\n'
    expected = [(1, {"sku": "A"}), (2, [f"Longer than {MAX_RECORD_SIZE} bytes"]), (3, {"sku": "B"})]
    assert summary(read("ndjson", content)) == expected
    chunks = [content[start : start + 1000] for start in range(0, len(content), 1000)]
    assert summary(read("ndjson", *chunks)) == expected


@pytest.mark.parametrize(
    ("record", "lines", "problem"),
    [
        ('"B\n' + ("y" * 999 + "\n") * 263, 264, "does not end within 262144 bytes"),
        # Even if a quotation mark follows later: it may belong to another record.
        ('"B\n' + ("y" * 999 + "\n") * 263 + '"\n', 265, "does not end within 262144 bytes"),
        ("x" * (MAX_RECORD_SIZE + 1) + "\n", 1, "does not end within 262144 bytes"),
        ('"B\nC\n', 2, "does not end"),
    ],
)
def test_unclosed_quotation_mark_refuses_the_rest_of_the_file(record: str, lines: int, problem: str) -> None:
    """Guessing where the record ends could read cell text as lines, or skip lines."""
    content = f"sku\nA\n{record}"
    content += "D\n" * 3 if "within" in problem else ""
    refused = range(3, content.count("\n") + 1)
    reason = f"Not read: the record in line 3 {problem}; is a quotation mark missing?"
    expected = [(2, {"sku": "A"}), *((number, [reason]) for number in refused)]
    assert len(refused) == lines + (3 if "within" in problem else 0)
    assert summary(read("csv", content.encode())) == expected
    chunks = [content.encode()[start : start + 1000] for start in range(0, len(content), 1000)]
    assert summary(read("csv", *chunks)) == expected


def test_at_most_one_record_is_buffered() -> None:
    for file_format in FORMATS.values():
        reader = file_format.reader(ReadOptions())
        list(reader.feed(file_format.header(WriteOptions()).encode()))
        for _ in range(100):
            assert list(reader.feed(b'"' + b"x" * 9_999)) == []
        buffered = [value for value in vars(reader).values() if isinstance(value, str | bytes)]
        assert sum(map(len, buffered)) <= 2 * MAX_RECORD_SIZE


def test_records_are_parsed_lazily() -> None:
    """As objects, the records of a chunk can take a hundred times its size."""
    reader = FORMATS["ndjson"].reader(ReadOptions())
    records = reader.feed(b"1\n" * 30_000)
    assert [next(records).line, next(records).line] == [1, 2]
    assert reader._line == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "The header line is missing"),
        (b"\n\n", "The header line is missing"),
        (b"name,Name\n", "These columns contain the same field: 'name', 'Name'"),
        (b" \n\xc2\xa0,\n", "The header line is missing"),
        (b"name,,sku\n", "Unknown columns: ''"),
        (b"\xff\n", "The header line cannot be read: Not encoded in UTF-8"),
        (b'"name\n', "Not read: the record in line 1 does not end; is a quotation mark missing?"),
        ("\ufeffsku\n".encode("utf-16-le")[:3], f"The header line cannot be read: {CUT_OFF}"),
        (b'"name"x\n', "The header line cannot be read: Not valid CSV"),
    ],
)
def test_file_without_valid_header_is_rejected(content: bytes, reason: str) -> None:
    assert file_error("csv", content).startswith(reason)


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("size", [1, 1_000])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *[("sku\nA\n".encode(f"utf-{each}"), NO_BYTE_ORDER_MARK) for each in ("16-le", "16-be", "32-le", "32-be")],
        *[("\ufeffsku\nA\n".encode(f"utf-32-{each}"), UTF_32) for each in ("le", "be")],
        # Cut off.
        *[("\ufeffsku".encode(f"utf-32-{each}")[:7], UTF_32) for each in ("le", "be")],
        (b"s\0k", NO_BYTE_ORDER_MARK),
        (b"PK\x03\x04\0\n", WORKBOOK),
        (b"\xd0\xcf\x11\xe0\n", WORKBOOK),
    ],
)
def test_file_that_is_no_text_is_rejected(name: str, content: bytes, size: int, reason: str) -> None:
    assert file_error(name, *(content[start : start + size] for start in range(0, len(content), size))) == reason


def lines_with_quotes() -> Iterator[str]:
    yield from ('"', '""', '"""', ',"', '",', '","', 'a"b,"', "x", '"a""', '",""', ',"",')


@given(st.lists(st.sampled_from(list(lines_with_quotes())), max_size=8))
def test_records_end_where_the_csv_module_ends_them(lines: list[str]) -> None:
    content = "sku,name\n" + "".join(f"{line}\n" for line in lines) + '"\n'
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    next(reader)
    # Compare up to the first error, after which only our reader continues.
    expected: list[int] = []
    first_line = reader.line_num + 1
    try:
        for row in reader:
            if any(row):
                expected.append(first_line)
            first_line = reader.line_num + 1
    except csv.Error:
        expected.append(first_line)
    assert [number for number, _ in summary(read("csv", content.encode()))][: len(expected)] == expected


def test_many_quotation_marks_take_linear_time() -> None:
    for hostile in ('"' + '""' * 30_000, '"' * 60_001, '"",' * 20_000 + '"', 'a"b,"' * 12_000):
        started = time.perf_counter()
        assert read("csv", b"sku\n", hostile.encode())[0].line == 2
        assert time.perf_counter() - started < 10  # Quadratic time would be minutes.
