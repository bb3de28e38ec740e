"""Strict and exact decoding of JSON.

The standard decoder would turn 19.990000000000000001 into 19.99, accept NaN, keep the last of two equal keys, and
accept lone surrogates, which no database can store.
"""

import json
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

MAX_FIELDS = 100  # in an object or a form
_MAX_NAME_LENGTH = 100  # in a message
MAX_VALUES = 1_000
"""Objects and fractions in one text. Each costs a call, and a short text could have thousands."""
_SHORTEST_VALUE = 3  # characters, as in [{},{}]
_MAX_EXPONENT = 1_000  # larger than any field allows, so that smaller numbers get the 422 of their field


class NotJson(ValueError):
    """The text is not acceptable JSON. The message has no subject: "is not valid JSON: ..."."""


def decode_json(text: str) -> Any:
    """Decode JSON, with non-integer numbers as Decimal; raises NotJson."""
    try:
        decoded = (_SHORT if len(text) < _SHORTEST_VALUE * MAX_VALUES else _decoder(_Values())).decode(text)
        # Only an escape can put a surrogate into a string: the bytes themselves are UTF-8.
        if "\\ud" in text or "\\uD" in text:
            _reject_surrogates(decoded)
    except json.JSONDecodeError as error:
        raise NotJson(f"is not valid JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise NotJson("is nested too deeply") from None
    except (ValueError, InvalidOperation) as error:
        raise NotJson(f"is not acceptable JSON: {_reason(error)}") from None
    return decoded


class _Rejected(ValueError):
    pass


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _Rejected) else "a number is too long"


class _Values:
    """Converts the objects and fractions of one text."""

    def __init__(self) -> None:
        self._count = 0

    def decimal(self, digits: str) -> Decimal:
        self._add()
        number = Decimal(digits)
        # Ten bytes can express a number with a billion digits, and converting it to an integer would take hours.
        if abs(number.adjusted()) > _MAX_EXPONENT:
            raise _Rejected("a number is too long")
        return number

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._add()
        if len(pairs) > MAX_FIELDS:
            # Every unknown field gets an error: a small body would cause a large response, which takes seconds to make.
            raise _Rejected(f"an object has more than {MAX_FIELDS} fields")
        decoded = dict(pairs)
        if len(decoded) != len(pairs):
            raise _Rejected(f"an object has the key {repeated_name(pairs)} twice")
        return decoded

    def _add(self) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _Rejected(f"it has more than {MAX_VALUES} objects and fractions")


class _FewValues(_Values):
    """Those of a text that is too short for too many of them."""

    def _add(self) -> None:
        pass


def _reject_constant(name: str) -> None:
    raise _Rejected(f"{name} is not a JSON number")


def repeated_name(pairs: Sequence[tuple[str, Any]]) -> str:
    """The name that comes more than once, quoted for a message."""
    [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
    return repr(name[:_MAX_NAME_LENGTH])


def _decoder(values: _Values) -> json.JSONDecoder:
    return json.JSONDecoder(
        parse_float=values.decimal, parse_constant=_reject_constant, object_pairs_hook=values.object
    )


_SHORT = _decoder(_FewValues())


def _reject_surrogates(decoded: Any) -> None:
    if isinstance(decoded, str):
        if not decoded.isascii() and any("\ud800" <= character <= "\udfff" for character in decoded):
            raise _Rejected("a string has a lone surrogate")
    elif isinstance(decoded, list):
        for item in decoded:
            _reject_surrogates(item)
    elif isinstance(decoded, dict):
        for key, value in decoded.items():
            _reject_surrogates(key)
            _reject_surrogates(value)
