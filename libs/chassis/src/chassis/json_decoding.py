"""JSON, decoded exactly and strictly.

The standard decoder would turn 19.990000000000000001 into 19.99, accept NaN, take the last of two equal keys, and let
a lone surrogate through that no database can store.
"""

import json
from decimal import Decimal, InvalidOperation
from typing import Any

MOST_FIELDS = 100  # of an object or a form
_LARGEST_EXPONENT = 1_000  # beyond what any field holds, so that whatever is below gets a 422 of its own


class NotJson(ValueError):
    """What is wrong with a text that is no JSON which can be read: "is not JSON: ...", without a subject."""


def decode_json(text: str) -> Any:
    """What the JSON says, numbers with a fraction as Decimal; raises NotJson."""
    try:
        decoded = json.loads(
            text,
            parse_float=_decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
        # Only an escape can bring a surrogate into a decoded string: the bytes themselves were UTF-8.
        if "\\ud" in text or "\\uD" in text:
            _refuse_surrogates(decoded)
    except json.JSONDecodeError as error:
        raise NotJson(f"is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise NotJson("is nested too deeply") from None
    except (ValueError, InvalidOperation) as error:
        raise NotJson(f"is not JSON that can be read: {_reason(error)}") from None
    return decoded


class _Refused(ValueError):
    pass


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _Refused) else "a number is too long"


def _decimal(digits: str) -> Decimal:
    number = Decimal(digits)
    # Ten bytes can say a number of a thousand million digits, and making an integer of it would take hours.
    if abs(number.adjusted()) > _LARGEST_EXPONENT:
        raise _Refused("a number is too long")
    return number


def _refuse_constant(name: str) -> None:
    raise _Refused(f"{name} is not a number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_FIELDS:
        # Each unknown one would be told of: a small body would make a large answer, and take seconds to do so.
        raise _Refused(f"an object has more than {MOST_FIELDS} fields")
    decoded = dict(pairs)
    if len(decoded) != len(pairs):
        raise _Refused("an object has the same key twice")
    return decoded


def _refuse_surrogates(decoded: Any) -> None:
    if isinstance(decoded, str):
        if not decoded.isascii() and any("\ud800" <= character <= "\udfff" for character in decoded):
            raise _Refused("a lone surrogate is not text")
    elif isinstance(decoded, list):
        for item in decoded:
            _refuse_surrogates(item)
    elif isinstance(decoded, dict):
        for key, value in decoded.items():
            _refuse_surrogates(key)
            _refuse_surrogates(value)
