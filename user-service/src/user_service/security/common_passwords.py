"""The most common passwords, which are rejected. The only module that imports zxcvbn, which has the list."""

from functools import cache

from zxcvbn.frequency_lists import FREQUENCY_LISTS

COMMON_PASSWORD_COUNT = 10_000


def is_common(password: str) -> bool:
    """Whether it is one of the `COMMON_PASSWORD_COUNT` most common passwords, case-insensitive."""
    return password.casefold() in _most_common()


@cache
def _most_common() -> frozenset[str]:
    return frozenset(FREQUENCY_LISTS["passwords"][:COMMON_PASSWORD_COUNT])
