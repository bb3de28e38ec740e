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


def words(*texts: str | None) -> list[str]:
    """The distinct words of the texts, folded. A word is a run of letters and digits.

    Words are cut to MAX_WORD_LENGTH characters.
    """
    found = (word[:MAX_WORD_LENGTH] for text in texts if text for word in _WORD.findall(fold(text)))
    return list(dict.fromkeys(found))
