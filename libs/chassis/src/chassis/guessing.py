"""How easily passwords and keys are guessed. The only module that imports zxcvbn.

zxcvbn builds its dictionaries on import, so functions import it when they need it: not at every start of a service, but
at the first new password, in the thread that checks it.
"""

import math
import threading
from collections.abc import Iterator, Sequence

MIN_KEY_GUESSES = 10**22
"""Random text of 32 digits or hexadecimal digits needs thousands of times as many; repeated words need fewer."""

_CHUNK_LENGTH = 24
"""zxcvbn's time grows exponentially with the length of passwords made of digits and punctuation, to many seconds."""

# zxcvbn keeps the hints of a call in a module-level dictionary.
_LOCK = threading.Lock()


def most_common_passwords() -> Sequence[str]:
    """Common passwords in lower case, the most common ones first."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    passwords: Sequence[str] = FREQUENCY_LISTS["passwords"]
    return passwords


def guesses(text: str, hints: Sequence[str] = ()) -> Iterator[int]:
    """How many guesses each part of the text needs. A slow computation in Python."""
    from zxcvbn import zxcvbn

    for start in range(0, len(text), _CHUNK_LENGTH):
        with _LOCK:
            yield int(zxcvbn(text[start : start + _CHUNK_LENGTH], hints)["guesses"])


def is_guessable_key(key: str) -> bool:
    """Whether fewer than `MIN_KEY_GUESSES` guesses find it: a repeated letter, a repeated word, a few words."""
    length = len(key)
    periods = (period for period in range(1, length + 1) if (key[:period] * length)[:length] == key)
    return math.prod(guesses(key[: next(periods, 0)])) < MIN_KEY_GUESSES
