"""Common and easily guessed passwords and keys, which are rejected. The only module that imports zxcvbn."""

import math
import threading
from collections.abc import Iterator, Sequence
from functools import cache

from zxcvbn import zxcvbn
from zxcvbn.frequency_lists import FREQUENCY_LISTS

COMMON_PASSWORD_COUNT = 10_000
"""Also the number of guesses that a password must withstand. It covers zxcvbn's lowest score and all rows of keys."""

MIN_KEY_GUESSES = 10**22
"""Random text of 32 digits or hexadecimal digits needs thousands of times as many; repeated words need fewer."""

_CHUNK_LENGTH = 24
"""zxcvbn's time grows exponentially with the length of passwords made of digits and punctuation, to many seconds."""

# zxcvbn keeps the hints of a call in a module-level dictionary.
_LOCK = threading.Lock()


def is_common(password: str) -> bool:
    """Whether it is one of the `COMMON_PASSWORD_COUNT` most common passwords, regardless of case and outer spaces."""
    return password.strip().casefold() in _most_common()


def is_guessable(password: str, username: str) -> bool:
    """Whether at most `COMMON_PASSWORD_COUNT` guesses find it: the username, a repeated letter, a row of keys.

    A slow computation in Python: up to a quarter of a second for the worst password. A long password is guessable if
    all parts of it are.
    """
    password = password.strip()
    if password.casefold() in ("", username.casefold()):
        return True
    return all(guesses <= COMMON_PASSWORD_COUNT for guesses in _guesses(password, [username]))


def is_guessable_key(key: str) -> bool:
    """Whether fewer than `MIN_KEY_GUESSES` guesses find it: a repeated letter, a repeated word, a few words."""
    length = len(key)
    periods = (period for period in range(1, length + 1) if (key[:period] * length)[:length] == key)
    return math.prod(_guesses(key[: next(periods, 0)])) < MIN_KEY_GUESSES


def _guesses(text: str, hints: Sequence[str] = ()) -> Iterator[int]:
    """How many guesses each part of the text needs."""
    for start in range(0, len(text), _CHUNK_LENGTH):
        with _LOCK:
            yield int(zxcvbn(text[start : start + _CHUNK_LENGTH], hints)["guesses"])


@cache
def _most_common() -> frozenset[str]:
    return frozenset(FREQUENCY_LISTS["passwords"][:COMMON_PASSWORD_COUNT])
