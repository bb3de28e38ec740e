"""Exact amounts of money: parsing, formatting, and the number of decimals of each currency (ISO 4217)."""

import re
from decimal import Decimal
from typing import Any

from iso4217 import Currency

DECIMALS = 4
SCALE = 10**DECIMALS
PATTERN = r"^[0-9]{1,10}(\.[0-9]{1,4})?$"

WITHDRAWN = dict.fromkeys(("ANG", "BGN", "CUC", "HRK", "MRO", "SLL", "STD", "VEF", "ZWL"), 2)
"""Currencies that ISO 4217 no longer lists, and their decimals. Stored products may have them, new ones may not.

If an update of the library drops a currency, add it here.
"""

CODE_PATTERN = "^[A-Z]{3}$"

_CODE = re.compile(CODE_PATTERN)
_AMOUNT = re.compile(PATTERN)
_UPPER_BOUND = Decimal(10) ** 10
_LISTED = {currency.code: currency.exponent for currency in Currency}
_DECIMALS = {**WITHDRAWN, **_LISTED}


def parse(value: Any, noun: str = "A price") -> Decimal:
    """Parse a string or a JSON number (an int, or the Decimal that the body was decoded to).

    Raises ValueError with a message for the client, in which `noun` names the amount.
    """
    if isinstance(value, str):
        if not _AMOUNT.fullmatch(value):
            if _AMOUNT.fullmatch(value.removeprefix("-")):
                raise ValueError(f"{noun} can't be negative")
            raise ValueError(f"{noun} looks like 19.99: up to 10 digits, then up to 4 decimals")
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError(f'{noun} is a number, or a string like "19.99"')
    if value < 0:
        raise ValueError(f"{noun} can't be negative")
    # Check the range first: expanded, 1e400 has 401 digits.
    if value >= _UPPER_BOUND:
        raise ValueError(f"{noun} has up to 10 digits before the decimal point")
    amount = Decimal(value)
    if amount != round(amount, DECIMALS):
        raise ValueError(f"{noun} has up to 4 decimals")
    return amount


def require_currency(code: str) -> str:
    """Return the code if a price can be in this currency. Raises ValueError with a message for the client."""
    if decimals(code) is not None:
        return code
    if not _CODE.fullmatch(code):
        meant = code.strip().upper()
        example = f": write {meant}" if decimals(meant) is not None else ", such as USD"
        raise ValueError(f"A currency code has three capital letters{example}")
    if code in _LISTED:
        raise ValueError(f"ISO 4217 gives {code} no decimals, so a price can't be in it")
    raise ValueError(f"{code} is not a current currency of ISO 4217; it may be misspelled or withdrawn")


def decimals(code: str) -> int | None:
    """The number of decimals of a currency; None if the code is unknown or ISO 4217 defines none, as for gold (XAU)."""
    return _DECIMALS.get(code)


def format_amount(amount: Decimal, currency: str) -> str:
    """Format with at least the decimals of the currency, and never with an exponent."""
    places = decimals(currency) or 0
    text = f"{amount:.{DECIMALS}f}"
    point = len(text) - DECIMALS
    further = text[point + places :].rstrip("0")
    return f"{text[: point + places]}{further}" if places or further else text[: point - 1]
