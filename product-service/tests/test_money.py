"""Parsing, formatting and storing amounts of money."""

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iso4217 import Currency

from product_service.domain import money
from product_service.models.products import ExactDecimal


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("19.99", "19.99"),
        ("0.0001", "0.0001"),
        ("9999999999.9999", "9999999999.9999"),
        ("007", "7"),
        (5, "5"),
        (0, "0"),
        (Decimal("19.99"), "19.99"),
        (Decimal("1E+2"), "100"),
        (Decimal("19.9900000"), "19.99"),
    ],
)
def test_amount_is_parsed_exactly(value: object, amount: str) -> None:
    assert money.parse(value) == Decimal(amount)


@pytest.mark.parametrize(
    "value",
    [
        "", " 1", "1 ", "1_0", "1e2", "+1", "-1", ".5", "5.", "1.00000", "12345678901", "NaN", "Infinity", "0x10",
        "\u0661",
        "1\n",
        True, False, None, 1.5, [], {}, 10**10, -1, Decimal(-1), Decimal("1E+400"), Decimal("1E-5"),
        Decimal("19.990000000000000000001"), Decimal("1E+999999"),
    ],
    ids=repr,
)  # fmt: skip
def test_invalid_amount_is_rejected(value: object) -> None:
    with pytest.raises(ValueError, match=r"^A price "):
        money.parse(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1e2", "A price looks like 19.99: up to 10 digits, then up to 4 decimals"),
        (True, 'A price is a number, or a string like "19.99"'),
        (-1, "A price can't be negative"),
        (10**10, "A price has up to 10 digits before the decimal point"),
        (Decimal("1E-5"), "A price has up to 4 decimals"),
    ],
)
def test_the_message_says_what_is_wrong_with_an_amount(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        money.parse(value)


AMOUNTS = st.decimals(min_value=0, max_value=Decimal("9999999999.9999"), places=4)


@given(AMOUNTS)
def test_stored_amount_is_loaded_unchanged(amount: Decimal) -> None:
    column = ExactDecimal()
    stored = column.process_bind_param(amount, None)  # type: ignore[arg-type]
    assert type(stored) is int
    assert column.process_result_value(stored, None) == amount  # type: ignore[arg-type]


@given(AMOUNTS, st.sampled_from(["USD", "JPY", "BHD", "CLF"]))
def test_formatted_amount_is_parsed_unchanged(amount: Decimal, currency: str) -> None:
    text = money.format_amount(amount, currency)
    assert money.parse(text) == amount
    assert money.parse(json.loads(text, parse_float=Decimal)) == amount


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("19.9", "USD", "19.90"),
        ("20", "USD", "20.00"),
        ("1E+2", "USD", "100.00"),
        ("100", "JPY", "100"),
        ("0.5", "BHD", "0.500"),
        ("0.0001", "CLF", "0.0001"),
        ("1000000", "JPY", "1000000"),
    ],
)
def test_amount_has_the_decimals_of_its_currency(amount: str, currency: str, text: str) -> None:
    assert money.format_amount(Decimal(amount), currency) == text


@pytest.mark.parametrize(("code", "places"), [("USD", 2), ("EUR", 2), ("JPY", 0), ("BHD", 3), ("CLF", 4)])
def test_decimals_follow_iso_4217(code: str, places: int) -> None:
    assert money.decimals(code) == places


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("usd", "A currency code has three capital letters: write USD"),
        (" Eur", "A currency code has three capital letters: write EUR"),
        *[(code, "A currency code has three capital letters, such as USD") for code in ("", "€", "Euro", "dem", "US1")],
        *[(code, f"ISO 4217 gives {code} no decimals, so a price can't be in it") for code in ("XAU", "XXX", "XTS")],
        *[
            (code, f"{code} is not a current currency of ISO 4217; it may be misspelled or withdrawn")
            for code in ("DEM", "BTC", "UDS")
        ],
    ],
)
def test_the_message_says_what_is_wrong_with_a_currency(code: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        money.require_currency(code)


def test_withdrawn_currencies_are_known() -> None:
    assert all(money.require_currency(code) == code for code in ("USD", "JPY", *money.WITHDRAWN))


CODES = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF
        CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ
        GYD HKD HNL HRK HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD
        MMK MNT MOP MRO MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON
        RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STD STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD
        TZS UAH USD USN UYU UZS VED VEF VES WST XAD XCD XCG YER ZAR ZMW ZWG ZWL""",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
"""All currencies that products can have, by decimals."""


def test_no_currency_is_lost_when_the_library_is_updated() -> None:
    """Add new currencies to CODES; never remove one, but add it to `money.WITHDRAWN`."""
    known = {code for codes in CODES.values() for code in codes.split()}
    assert {code: money.decimals(code) for code in known} == {
        code: places for places, codes in CODES.items() for code in codes.split()
    }
    listed = {each.code for each in Currency if each.exponent is not None}
    assert listed | money.WITHDRAWN.keys() == known
    assert not listed & money.WITHDRAWN.keys()


@pytest.mark.parametrize("code", ["usd", "US", "USDD", "", "XAU", "XXX", "BTC", "ÜSD"])
def test_unknown_currency_has_no_decimals(code: str) -> None:
    assert money.decimals(code) is None
