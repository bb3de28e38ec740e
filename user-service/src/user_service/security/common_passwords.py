"""Common and easily guessed passwords, which are rejected. The only module that imports zxcvbn."""

import threading
from functools import cache

from zxcvbn import zxcvbn
from zxcvbn.frequency_lists import FREQUENCY_LISTS

COMMON_PASSWORD_COUNT = 10_000
"""Also the number of guesses that a password must withstand. It covers zxcvbn's lowest score and all rows of keys."""

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
    chunks = [password[start : start + _CHUNK_LENGTH] for start in range(0, len(password), _CHUNK_LENGTH)]
    with _LOCK:
        return all(zxcvbn(chunk, [username])["guesses"] <= COMMON_PASSWORD_COUNT for chunk in chunks)


@cache
def _most_common() -> frozenset[str]:
    return frozenset(FREQUENCY_LISTS["passwords"][:COMMON_PASSWORD_COUNT])
