"""Text normalisation for sorting and search. It is done in Python, so that all databases agree.

The results are stored with each product. A change to these functions needs a migration that recomputes the stored
columns, like `product_service_0008`.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

# In characters of up to 4 bytes each: PostgreSQL limits a lexeme to 2046 bytes.
MAX_WORD_LENGTH = 100
MAX_SEARCH_WORDS = 8
"""In one search. Each word is a look-up in the index."""
# Folding can turn 1 character into 18, and PostgreSQL cannot index a value of more than 2704 bytes.
MAX_NAME_KEY_LENGTH = 255

_WORD = re.compile(r"[^\W_]+")
_ASCII_WORD = re.compile("[0-9a-z]+")

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3005-\u3007\u3021-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # Japanese syllables, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
"""The scripts that put no spaces between words."""
_PART = re.compile(f"(?P<unspaced>[{_UNSPACED}]+)|[^{_UNSPACED}]+")

SPELLED_OUT = {
    "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ŋ": "n", "ĸ": "q", "ȷ": "j", "ə": "e", "ɵ": "o", "ʉ": "u",
    "\u0131": "i",  # the Turkish letter without a dot
}  # fmt: skip
"""Letters that Unicode does not decompose, and that people without them on the keyboard write differently."""

APOSTROPHES = "\u02b9\u02ba\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\ua78c"
"""Letters to Unicode, but apostrophes to people. An apostrophe separates words."""

IGNORED = "\u0640\u115f\u1160"
"""Letters without a meaning: the Arabic elongation, and the fillers of Korean syllables."""


def _base_letters() -> dict[str, str]:
    """Latin and Cyrillic letters that Unicode calls X WITH a stroke, a hook or the like, and does not decompose."""
    bases = {}
    for letter in map(chr, (*range(0x80, 0x3000), *range(0xA640, 0xAB70))):
        name, has_addition, _ = unicodedata.name(letter, "").partition(" WITH ")
        if has_addition and name.startswith(("LATIN SMALL LETTER", "CYRILLIC SMALL LETTER")):
            try:
                base = unicodedata.normalize("NFKD", unicodedata.lookup(name))[0]
            except KeyError:  # A few are named after a letter that Unicode does not have.
                continue
            bases[letter] = SPELLED_OUT.get(base, base)
    return bases


@cache
def _folding() -> dict[int, str]:
    """What `fold` makes of characters. Not made on import, because it takes 10 ms and 1.6 MB."""
    return str.maketrans(
        {**_base_letters(), **SPELLED_OUT, **dict.fromkeys(APOSTROPHES, "'"), **dict.fromkeys(IGNORED, "")}
    )


def fold(text: str) -> str:
    """Remove differences of case, accents, compatibility forms and invisible characters.

    The README of the service has the table of what is folded.
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    visible = (each for each in decomposed if unicodedata.category(each) not in ("Mn", "Mc", "Me", "Cf"))
    return "".join(visible).casefold().translate(_folding())


def name_key(folded_name: str) -> str:
    """What products are sorted by as their name."""
    return folded_name[:MAX_NAME_KEY_LENGTH]


def words(*texts: str | None) -> list[str]:
    """The distinct words of the texts, folded."""
    return split_words(*(fold(text) for text in texts if text))


class SearchWord(NamedTuple):
    text: str
    is_whole: bool
    """Whether it must be a word of a text, and not just the beginning of one."""


def search_words(q: str) -> list[SearchWord]:
    """The words to search for.

    Beside other words, a single letter must be a whole word: very many words begin with it. In scripts without spaces,
    a single character is a word of its own.
    """
    found = list(dict.fromkeys(_each_word([fold(q)], to_search=True)))
    return [SearchWord(word, len(found) > 1 and len(word) == 1 and not _is_unspaced(word)) for word in found]


def count_search_words(q: str) -> int:
    """The number of words as people count them: without spaces, a text is one word."""
    return len({part.group() for part in _each_part([fold(q)])})


def split_words(*folded: str) -> list[str]:
    """The distinct words of folded texts. A word is a run of letters and digits, cut to MAX_WORD_LENGTH characters.

    In scripts without spaces, a word is each character with the one after it. So a search finds what is in the middle
    of a text, as the beginning of such a word, or as several of them.
    """
    text = " ".join(folded)
    if text.isascii():  # The usual case, which takes a fraction of the time.
        return list(dict.fromkeys([word[:MAX_WORD_LENGTH] for word in _ASCII_WORD.findall(text)]))
    return list(dict.fromkeys(_each_word(folded)))


def _each_part(folded: Iterable[str]) -> Iterator[re.Match[str]]:
    for run in (run for text in folded for run in _WORD.findall(text)):
        yield from _PART.finditer(run)


def _is_unspaced(character: str) -> bool:
    return any(part.lastgroup == "unspaced" for part in _PART.finditer(character))


def _each_word(folded: Iterable[str], *, to_search: bool = False) -> Iterator[str]:
    for part in _each_part(folded):
        text = part.group()
        if part.lastgroup == "unspaced":
            # A text with the last pair has the last character too. Alone, that would be in many texts.
            end = len(text) - 1 if to_search and len(text) > 1 else len(text)
            yield from (text[position : position + 2] for position in range(end))
        else:
            yield text[:MAX_WORD_LENGTH]
