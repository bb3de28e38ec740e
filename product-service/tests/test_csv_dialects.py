"""CSV of other programs: separators, decimal signs, encodings and names of columns."""

from typing import Any

import pytest

from chassis.errors import Invalid
from product_service.files.formats import FORMATS
from product_service.files.options import Layout, ReadOptions
from product_service.files.reader import CUT_OFF, NOT_UTF_16, Record
from product_service.schemas import ProductLine


def read(content: bytes | str, size: int = 1_000, **options: Any) -> tuple[list[Any], Layout]:
    """The fields or the errors of each record, and the layout."""
    if isinstance(content, str):
        content = content.encode()
    reader = FORMATS["csv"].reader(ReadOptions(**options))
    records: list[Record] = []
    for start in range(0, len(content), size):
        records += reader.feed(content[start : start + size])
    records += reader.end()
    return [summary(each.content) for each in records], reader.layout


def summary(content: ProductLine | Invalid) -> Any:
    if isinstance(content, Invalid):
        return [f"{error.pointer} {error.detail}" for error in content.errors]
    return {name: str(value) for name, value in content.model_dump(exclude_unset=True).items()}


@pytest.mark.parametrize(("delimiter", "character"), [(",", ","), (";", ";"), ("tab", "\t"), ("|", "|")])
def test_delimiter_is_detected(delimiter: str, character: str) -> None:
    content = f'sku{character}name\nA{character}"v, w; x| y"\n"B"{character}z\n'
    fields, layout = read(content)
    assert fields == [{"sku": "A", "name": "v, w; x| y"}, {"sku": "B", "name": "z"}]
    assert layout.delimiter == delimiter
    assert read(content, delimiter=delimiter)[0] == fields


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("sku", ","),
        ("name;Price, EUR;sku", ";"),
        ('name,"Price; EUR",sku', ","),
        ("name;unknown;sku", ";"),
        ('"na\nme";sku', ";"),
        ("sep=;\nname;sku", ";"),
        ('"sep=\t"\r\nname\tsku', "tab"),
        ("\ufeffSEP=|\nname|sku", "|"),
    ],
)
def test_delimiter_is_detected_in_the_header_alone(header: str, delimiter: str) -> None:
    fields, layout = read(f"{header}\n", ignore_unknown=True)
    assert (fields, layout.delimiter) == ([], delimiter)


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        ("name,price;sku\n", {}, "Unclear which of , ; separates the columns; set the delimiter"),
        ("name,price;sku\n", {"delimiter": ";"}, "Unknown columns: 'name,price'"),
        ("a,b;c\n", {"ignore_unknown": True}, "No column is known. The columns are id, name, "),
        ("sep=:\nname:sku\n", {}, "Cells can't be separated by ':'; use one of , ; tab |"),
        ("sep=;\nname;sku\n", {"delimiter": ","}, "The first line of the file sets another delimiter: ;"),
    ],
)
def test_unclear_delimiter_is_an_error(content: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(content, **options)
    assert caught.value.errors[0].detail.startswith(reason)


UNCLEAR = "/price Unclear whether 1{}500 has decimals or thousands; set the decimal sign"
FORM = "up to 10 digits, then up to 4 decimals; no spaces, no sign for thousands, no currency"
COMMA, POINT, EITHER = (
    f"/price In this file, a price looks like {example}: {FORM}" for example in ("19,99", "19.99", "19.99 or 19,99")
)


@pytest.mark.parametrize(
    ("prices", "options", "expected", "decimal"),
    [
        (["5", "1,5", "1,500"], {}, ["5", "1.5", "1.500"], ","),
        (["1,500", "1.500", "7,25"], {}, [[UNCLEAR.format(",")], [UNCLEAR.format(".")], "7.25"], ","),
        (["1.5", "1.500", "7,25"], {}, ["1.5", "1.500", [POINT]], "."),
        (["7,25", "7.25", "1.234,50"], {}, ["7.25", [COMMA], [COMMA]], ","),
        (["1.500", "1,500"], {"decimal": ","}, [[COMMA], "1.500"], ","),
        (["1.500", "1,500"], {"decimal": "."}, ["1.500", [POINT]], "."),
        (["5", "x,y", "-1,5"], {}, ["5", [EITHER], ["/price A price can't be negative"]], ","),
        (["5"], {}, ["5"], None),
        (["1 234,50", "€ 5,00", "5,00 ", "5,00"], {}, [*[[EITHER]] * 3, "5.00"], ","),
        (["5,00", "1\u202f234,50", "€ 5,00", "5,00 ", "5,00001", "12345678901"], {}, ["5.00", *[[COMMA]] * 5], ","),
        (["5.00", "$5.00", "1'234.50", "5.", "5e2", "5,00"], {}, ["5.00", *[[POINT]] * 5], "."),
    ],
)
def test_decimal_sign_is_detected_unless_it_may_mean_thousands(
    prices: list[str], options: dict[str, Any], expected: list[Any], decimal: str | None
) -> None:
    fields, layout = read("".join(["sku;price\n", *(f"A;{price}\n" for price in prices)]), **options)
    assert [each["price"] if isinstance(each, dict) else each for each in fields] == expected
    assert layout.decimal == decimal


def test_point_is_the_decimal_sign_between_commas() -> None:
    assert read('sku,price\nA,1.500\nB,"1,500"\n')[0] == [{"sku": "A", "price": "1.500"}, [POINT]]
    fields, layout = read('sku,price\nA,"7,25"\nB,7\n')
    assert (fields, layout.decimal) == ([{"sku": "A", "price": "7.25"}, {"sku": "B", "price": "7"}], ",")


def test_all_errors_of_a_line_are_reported() -> None:
    assert read("sku;price;quantity\nA;1,500;-1\n")[0] == [[UNCLEAR.format(","), "/quantity Must be at least 0"]]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_utf_16_with_a_byte_order_mark_is_read(encoding: str, size: int) -> None:
    content = "\ufeffsku\tname\r\nA\tÉ 💡\u0a0d\r\nB\t\ud83d\r\nC\tx".encode(encoding, "surrogatepass")
    fields, _ = read(content, size)
    assert fields == [{"sku": "A", "name": "É 💡\u0a0d"}, [f"None {NOT_UTF_16}"], {"sku": "C", "name": "x"}]
    # Half a character at the end.
    assert read(content[:-1], size)[0] == [*fields[:-1], [f"None {CUT_OFF}"]]


def test_names_of_columns_are_forgiven_case_and_blanks() -> None:
    assert read(" SKU ,\u00a0Name\nA,x\n")[0] == [{"sku": "A", "name": "x"}]


def test_columns_are_mapped_and_ignored() -> None:
    content = "SKU,Variant  SKU,Title,,Note\nold,A,Lamp,,x\n"
    columns = {"variant sku": "sku", "TITLE": "name"}
    fields, layout = read(content, columns=columns, ignore_unknown=True)
    assert fields == [{"sku": "A", "name": "Lamp"}]
    assert layout.ignored_columns == ["SKU", "", "Note"]
    with pytest.raises(Invalid) as caught:
        read(content, columns=columns)
    unknown, conflict = caught.value.errors
    assert unknown.detail.startswith("Unknown columns: '', 'Note'. Skip them with")
    assert conflict.detail.startswith("columns maps 'variant sku' to sku, so 'SKU' has no field. ")


def test_messages_about_endless_headers_are_short() -> None:
    names = ",".join(f"c{number}{'x' * 200}" for number in range(300))
    with pytest.raises(Invalid) as caught:
        read(f"{names}\n")
    assert len(caught.value.errors[0].detail) < 12_000
    assert "and 200 more. Skip" in caught.value.errors[0].detail
    assert len(read(f"sku,{names}\n", ignore_unknown=True)[1].ignored_columns) == 100


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"SKU": "A", "Title": "Lamp", "x": 1}', {"sku": "A", "name": "Lamp"}),
        ('{"sku": "A", "SKU": "B"}', ["/sku The line contains this field twice"]),
        ("[]", [" Must be an object"]),
    ],
)
def test_ndjson_has_the_same_names(line: str, expected: Any) -> None:
    reader = FORMATS["ndjson"].reader(ReadOptions({"title": "name"}, ignore_unknown=True))
    assert [summary(each.content) for each in reader.feed(line.encode(), last=True)] == [expected]
