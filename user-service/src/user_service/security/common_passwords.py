"""The most common passwords, of which none is accepted. They come with zxcvbn: the only module that imports it."""

from functools import cache

from zxcvbn.frequency_lists import FREQUENCY_LISTS

HOW_MANY = 10_000


def is_common(password: str) -> bool:
    """Whether it is among the `HOW_MANY` most common ones, whatever its case."""
    return password.casefold() in _most_common()


@cache
def _most_common() -> frozenset[str]:
    return frozenset(FREQUENCY_LISTS["passwords"][:HOW_MANY])
