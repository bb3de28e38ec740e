"""The catalogue as a file: what is written is read again exactly, however it is cut; what cannot be read is told."""

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
from product_service.domain.fields import EDITABLE_FIELDS
from product_service.files.formats import FORMATS, LONGEST_RECORD, Line
from product_service.models import Product
from product_service.schemas import ProductCreate, ProductPatch
from testkit.products import product

NOT_UTF_8 = "This is not UTF-8; spreadsheets have it among the formats of CSV"


def read(name: str, *pieces: bytes) -> list[Line]:
    reader = FORMATS[name].reader()
    return [*(line for piece in pieces for line in reader.feed(piece)), *reader.end()]


def said(lines: Iterable[Line]) -> list[tuple[int, Any]]:
    """Each line's number, and the fields that it holds or the mistakes in it."""
    return [(line.number, told(line.content)) for line in lines]


def told(content: ProductPatch | Invalid) -> Any:
    if isinstance(content, Invalid):
        return [f"{mistake.pointer or ''} {mistake.detail}".strip() for mistake in content.errors]
    return content.model_dump(exclude_unset=True)


def refusal(name: str, *pieces: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        read(name, *pieces)
    return caught.value.errors[0].detail


characters = st.characters(exclude_categories=["Cs", "Cc"])
awkward = st.sampled_from(["'", '"', ",", "=", "+", "-", "@", " ", "\u2028", "\ufeff", "\uff1d", "é", "💡"])
line = st.text(awkward | characters, max_size=12)
not_blank = line.map(lambda text: f"{text}x{text}")
products = st.builds(
    product,
    name=not_blank,
    description=st.none() | st.text(awkward | characters | st.sampled_from("\n\r\t"), max_size=12),
    price=st.integers(1, 10**14 - 1).map(lambda number: Decimal(number) / 10_000),
    currency=st.sampled_from(["CLF", "UYW"]),  # With four decimals.
    quantity=st.integers(0, 2**31 - 1),
    sku=st.none() | not_blank,
    category=st.none() | not_blank,
)


def facts(stored: Product) -> dict[str, Any]:
    return {name: getattr(stored, name) for name in EDITABLE_FIELDS}


@given(st.lists(products, max_size=4), st.sampled_from(sorted(FORMATS)), st.integers(1, 40))
def test_what_is_written_is_read_again_exactly_wherever_it_is_cut(stored: list[Product], name: str, size: int) -> None:
    form = FORMATS[name]
    content = (form.head + form.write(stored)).encode()
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    assert [told(line.content) for line in read(name, *pieces)] == [facts(each) for each in stored]


@given(st.lists(products, max_size=4))
def test_other_programs_read_the_same(stored: list[Product]) -> None:
    rows = list(csv.reader(io.StringIO(FORMATS["csv"].head + FORMATS["csv"].write(stored), newline="")))
    prices = [money.format_amount(each.price, each.currency) for each in stored]
    assert [row[EDITABLE_FIELDS.index("price")] for row in rows[1:]] == prices
    lines = FORMATS["ndjson"].write(stored).split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [each.snapshot for each in stored]


def test_the_columns_are_the_fields_of_a_creation() -> None:
    assert tuple(ProductCreate.model_fields) == EDITABLE_FIELDS
    assert FORMATS["csv"].head == "name,description,price,currency,quantity,sku,category\r\n"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n@a", "\uff1d1", "'", "''", "'=1", "", "=", '="a"'],
)
def test_no_cell_begins_like_a_formula_and_the_text_comes_back(text: str) -> None:
    written = FORMATS["csv"].write([product(description=text)])
    [row] = csv.reader(io.StringIO(written, newline=""))
    assert row[1] == f"'{text}"
    [line] = read("csv", FORMATS["csv"].head.encode(), written.encode())
    assert told(line.content)["description"] == text


def test_nothing_and_an_empty_text_are_not_the_same() -> None:
    written = FORMATS["csv"].write([product(description=None), product(description="")])
    assert [row.split(",")[1] for row in written.splitlines()] == ["", "'"]
    assert "1.5" in FORMATS["csv"].write([product(name="1.5", description="a=b, c-d")])
    assert "'1.5" not in FORMATS["csv"].write([product(name="1.5")])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # What is left out stays as it is; what may be empty is cleared; what must not be is taken for left out.
        ("sku,quantity\nA,5", [(2, {"sku": "A", "quantity": 5})]),
        ("\ufeffsku, quantity \r\nA,5\r\n", [(2, {"sku": "A", "quantity": 5})]),
        ("sku,description,category,name\nA,,,\n", [(2, {"sku": "A", "description": None, "category": None})]),
        # Empty lines, and rows of empty cells, are none.
        ("sku,quantity\n\n,\r\nA,5\n\n", [(4, {"sku": "A", "quantity": 5})]),
        ('"sku"\n"a ""b"" c"\n', [(2, {"sku": 'a "b" c'})]),
        ('sku\n5" pipe\nB\n', [(2, {"sku": '5" pipe'}), (3, {"sku": "B"})]),
        # A record of several lines has the number of the first.
        (
            'sku,description\nA,"one\r\n\ntwo"\nB,\n',
            [(2, {"sku": "A", "description": "one\r\n\ntwo"}), (5, {"sku": "B", "description": None})],
        ),
        # What is refused leaves the others.
        ("sku\nA,B\nC\n", [(2, ["There are 2 cells here, and 1 columns"]), (3, {"sku": "C"})]),
        ('sku\n"A"B\nC\n', [(2, ["This is not CSV: ',' expected after '\"'"]), (3, {"sku": "C"})]),
        ("sku,quantity\nA,1.5\n", [(2, ["/quantity Input should be a valid integer"])]),
        ("sku,quantity\nA,-1\n", [(2, ["/quantity Input should be a valid integer"])]),
        ("sku,quantity\nA,٣\n", [(2, ["/quantity Input should be a valid integer"])]),
        ("sku,quantity\nA,4000000000\n", [(2, ["/quantity Input should be less than or equal to 2147483647"])]),
        ("name,currency\n \u00a0,USD\n", [(2, ["/name This must not be blank"])]),
        # Columns with nothing in them, as spreadsheets add them.
        (
            "sku,quantity,,\nA,5,,\nB,6\nC,7,8\n",
            [
                (2, {"sku": "A", "quantity": 5}),
                (3, {"sku": "B", "quantity": 6}),
                (4, ["There are 3 cells here, and 2 columns"]),
            ],
        ),
        ("sku\nA\rB\nC\n", [(2, ["This is not CSV: a line ends with a carriage return alone"]), (3, {"sku": "C"})]),
        # What is within quotation marks is no line of its own, also where it cannot be read.
        ('sku,name\nA,"caf\udce9\nB,x\n"\nC,\n', [(2, [NOT_UTF_8]), (5, {"sku": "C"})]),
        ("sku\n" + "x" * 65 + "\n", [(2, ["/sku Text should have at most 64 characters, not 65"])]),
    ],
)
def test_csv_is_read_line_by_line(content: str, expected: list[tuple[int, Any]]) -> None:
    assert said(read("csv", content.encode(errors="surrogateescape"))) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", []),
        ("\ufeff\n  \n", []),
        (
            '{"sku": "A"}\r\n\n{"sku": "B", "price": 1.5}',
            [(1, {"sku": "A"}), (3, {"sku": "B", "price": Decimal("1.5")})],
        ),
        ('[1]\n{"sku": "A"}\n', [(1, ["Input should be an object"]), (2, {"sku": "A"})]),
        ('{"sku": }\n', [(1, ["This is not valid JSON: Expecting value at character 8"])]),
        ('{"sku": "A", "sku": "B"}\n', [(1, ["This is not acceptable JSON: an object has the same key twice"])]),
        ('{"price": NaN}\n', [(1, ["This is not acceptable JSON: NaN is not a JSON number"])]),
        ('{"sku": "\\ud800"}\n', [(1, ["This is not acceptable JSON: a string has a lone surrogate"])]),
        ('{"id": 1}\n', [(1, ["/id Unknown field"])]),
        ('{"name": null}\n', [(1, ["/name Input should be a valid string"])]),
        ('{"description": "\'=1"}\n', [(1, {"description": "'=1"})]),
    ],
)
def test_ndjson_is_read_line_by_line(content: str, expected: list[tuple[int, Any]]) -> None:
    assert said(read("ndjson", content.encode())) == expected


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_line_that_is_not_utf_8_leaves_the_others(name: str) -> None:
    good = {"csv": b"A", "ndjson": b'{"sku": "A"}'}[name]
    head = b"sku\n" if name == "csv" else b"\n"
    assert said(read(name, head + b"\xff\n" + good)) == [(2, [NOT_UTF_8]), (3, {"sku": "A"})]


def test_a_line_of_ndjson_that_is_too_long_leaves_the_others() -> None:
    content = b'{"sku": "A"}\n' + b"x" * (LONGEST_RECORD + 1) + b'\n{"sku": "B"}\n'
    expected = [(1, {"sku": "A"}), (2, ["This is longer than 65536 bytes"]), (3, {"sku": "B"})]
    assert said(read("ndjson", content)) == expected
    pieces = [content[start : start + 1000] for start in range(0, len(content), 1000)]
    assert said(read("ndjson", *pieces)) == expected


@pytest.mark.parametrize(
    ("record", "lines", "does"),
    [
        ('"B\n' + ("y" * 999 + "\n") * 66, 67, "does not end within 65536 bytes"),
        # Also where a quotation mark would come at last: nobody knows which one it belongs to.
        ('"B\n' + ("y" * 999 + "\n") * 66 + '"\n', 68, "does not end within 65536 bytes"),
        ("x" * (LONGEST_RECORD + 1) + "\n", 1, "does not end within 65536 bytes"),
        ('"B\nC\n', 2, "does not end"),
    ],
)
def test_behind_a_quotation_mark_that_nothing_closes_every_line_is_refused(record: str, lines: int, does: str) -> None:
    """A guess would take the text of a cell for lines, or leave lines out."""
    content = f"sku\nA\n{record}"
    content += "D\n" * 3 if "within" in does else ""
    refused = range(3, content.count("\n") + 1)
    reason = f"Not read: what begins in line 3 {does}; is a quotation mark missing?"
    expected = [(2, {"sku": "A"}), *((number, [reason]) for number in refused)]
    assert len(refused) == lines + (3 if "within" in does else 0)
    assert said(read("csv", content.encode())) == expected
    pieces = [content.encode()[start : start + 1000] for start in range(0, len(content), 1000)]
    assert said(read("csv", *pieces)) == expected


def test_no_more_than_a_record_is_kept_of_what_does_not_end() -> None:
    for form in FORMATS.values():
        reader = form.reader()
        list(reader.feed(form.head.encode()))
        for _ in range(100):
            assert list(reader.feed(b'"' + b"x" * 9_999)) == []
        kept = [value for value in vars(reader).values() if isinstance(value, str | bytes)]
        assert sum(map(len, kept)) <= 2 * LONGEST_RECORD


def test_lines_are_made_as_they_are_asked_for() -> None:
    """As objects, the lines of a piece may take a hundred times as much as it does."""
    reader = FORMATS["ndjson"].reader()
    lines = reader.feed(b"1\n" * 30_000)
    assert [next(lines).number, next(lines).number] == [1, 2]
    assert reader._number == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "There is no line that names the columns"),
        (b"\n\n", "There is no line that names the columns"),
        (
            b"name;price\nA;1\n",
            f"There is no column 'name;price'; there are {', '.join(EDITABLE_FIELDS)}; they are separated by commas",
        ),
        (b"name,Price\n", "There is no column 'Price'"),
        (b"name,name\n", "A column is named twice"),
        (b"name,,sku\n", "There is no column ''"),
        (b"\xff\n", "The line that names the columns cannot be read: This is not UTF-8"),
        (b'"name\n', "Not read: what begins in line 1 does not end; is a quotation mark missing?"),
        ("name,price\n".encode("utf-16"), "The line that names the columns cannot be read: This is not UTF-8"),
        (b'"name"x\n', "The line that names the columns cannot be read: This is not CSV"),
    ],
)
def test_a_file_without_known_columns_is_no_catalogue(content: bytes, reason: str) -> None:
    assert refusal("csv", content).startswith(reason)


def lines_that_open_and_close() -> Iterator[str]:
    yield from ('"', '""', '"""', ',"', '",', '","', 'a"b,"', "x", '"a""', '",""', ',"",')


@given(st.lists(st.sampled_from(list(lines_that_open_and_close())), max_size=8))
def test_records_end_where_the_csv_of_the_standard_library_ends_them(lines: list[str]) -> None:
    content = "sku,name\n" + "".join(f"{line}\n" for line in lines) + '"\n'
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    next(reader)
    # Up to the first mistake, behind which this reads on, and that does not.
    expected: list[int] = []
    begins = reader.line_num + 1
    try:
        for row in reader:
            if any(row):
                expected.append(begins)
            begins = reader.line_num + 1
    except csv.Error:
        expected.append(begins)
    assert [number for number, _ in said(read("csv", content.encode()))][: len(expected)] == expected


def test_quotation_marks_cost_no_more_than_their_number() -> None:
    for hostile in ('"' + '""' * 30_000, '"' * 60_001, '"",' * 20_000 + '"', 'a"b,"' * 12_000):
        started = time.perf_counter()
        assert read("csv", b"sku\n", hostile.encode())[0].number == 2
        assert time.perf_counter() - started < 1
