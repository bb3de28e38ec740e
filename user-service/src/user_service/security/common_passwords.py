"""Common and easily guessed passwords, which are rejected."""

from functools import cache

from chassis.guessing import guesses, most_common_passwords

COMMON_PASSWORD_COUNT = 10_000
"""Also the number of guesses that a password must withstand. It covers zxcvbn's lowest score and all rows of keys."""


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
    return all(count <= COMMON_PASSWORD_COUNT for count in guesses(password, [username]))


@cache
def _most_common() -> frozenset[str]:
    return frozenset(most_common_passwords()[:COMMON_PASSWORD_COUNT])
