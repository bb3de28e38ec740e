"""Text as it is sorted and searched: made here, and not by a database, so that it is the same on all of them.

What follows from it is stored beside each product. A change of these functions therefore needs a migration that
fills the stored columns anew.
"""

import re
import unicodedata

# In characters of up to 4 bytes: PostgreSQL takes no lexeme over 2046 bytes.
LONGEST_WORD = 100
# Folding may make 18 characters of one, and PostgreSQL indexes no value over 2704 bytes.
LONGEST_NAME_KEY = 255

_WORD = re.compile(r"[^\W_]+")


def folded(text: str) -> str:
    """The text without what often differs between two ways to write the same: case, accents, compatibility forms."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(each for each in decomposed if not unicodedata.category(each).startswith("M")).casefold()


def words(*texts: str | None) -> list[str]:
    """The words of the texts, folded and each once; a word is an unbroken row of letters and digits.

    All but the first LONGEST_WORD characters of a word are left out.
    """
    found = (word[:LONGEST_WORD] for text in texts if text for word in _WORD.findall(folded(text)))
    return list(dict.fromkeys(found))
