"""Text normalisation for sorting and search. It is done in Python, so that all databases agree.

The results are stored with each product. A change to these functions needs a migration that recomputes the stored
columns.
"""

import re
import unicodedata

# In characters of up to 4 bytes each: PostgreSQL limits a lexeme to 2046 bytes.
MAX_WORD_LENGTH = 100
# Folding can turn 1 character into 18, and PostgreSQL cannot index a value of more than 2704 bytes.
MAX_NAME_KEY_LENGTH = 255

_WORD = re.compile(r"[^\W_]+")


def fold(text: str) -> str:
    """Remove differences of case, accents and compatibility forms."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(each for each in decomposed if not unicodedata.category(each).startswith("M")).casefold()


def name_key(folded_name: str) -> str:
    """What products are sorted by as their name."""
    return folded_name[:MAX_NAME_KEY_LENGTH]


def words(*texts: str | None) -> list[str]:
    """The distinct words of the texts, folded."""
    return split_words(*(fold(text) for text in texts if text))


def split_words(*folded: str) -> list[str]:
    """The distinct words of folded texts. A word is a run of letters and digits, cut to MAX_WORD_LENGTH characters."""
    return list(dict.fromkeys(word[:MAX_WORD_LENGTH] for text in folded for word in _WORD.findall(text)))
