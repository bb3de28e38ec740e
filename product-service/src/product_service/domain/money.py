"""Exact amounts of money: how they are written, and how many decimals a currency has (ISO 4217)."""

import re
from decimal import Decimal
from typing import Any

from iso4217 import Currency

DECIMALS = 4
SCALE = 10**DECIMALS
PATTERN = r"^[0-9]{1,10}(\.[0-9]{1,4})?$"

_WRITTEN = re.compile(PATTERN)
_LARGEST = Decimal(10) ** 10


def parse(given: Any) -> Decimal:
    """The amount that a JSON number (an int, or the Decimal that the body was decoded to) or a text stands for.

    Raises ValueError with a sentence for people.
    """
    if isinstance(given, str):
        if not _WRITTEN.fullmatch(given):
            raise ValueError("A price is written like 19.99: up to 10 digits, and up to 4 after the point")
        return Decimal(given)
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        raise ValueError('A price is a number, or text like "19.99"')
    # Out of range first: 1e400 has 401 digits once it is written out.
    if not 0 <= given < _LARGEST:
        raise ValueError("A price has up to 10 digits before the point")
    amount = Decimal(given)
    if amount != round(amount, DECIMALS):
        raise ValueError("A price has up to 4 digits after the point")
    return amount


def decimals(code: str) -> int | None:
    """How many decimals this currency has; None where ISO 4217 knows no such currency, or gives it none (gold)."""
    try:
        return Currency(code).exponent
    except ValueError:
        return None


def format_amount(amount: Decimal, currency: str) -> str:
    """The amount as it is printed: with at least the decimals of its currency, and never an exponent."""
    places = max(decimals(currency) or 0, -int(amount.normalize().as_tuple().exponent))
    return f"{amount:.{places}f}"
