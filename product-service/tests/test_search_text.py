"""Words and sort keys, as they are made of text."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_service.domain.search_text import LONGEST_NAME_KEY, LONGEST_WORD, folded, words
from product_service.models import Product
from product_service.models.products import derived

FOLDED = {
    "Lamp": "lamp",
    "LÄMPCHEN": "lampchen",
    "La\u0308mpchen": "lampchen",
    "Straße": "strasse",
    "STRASSE": "strasse",
    "STRAẞE": "strasse",
    "Ærø": "ærø",
    "İstanbul": "istanbul",
    "ΌΔΟΣ οδος": "οδοσ οδοσ",
    "ﬁne": "fine",
    "\uff26\uff55\uff4c\uff4c": "full",
    "x²": "x2",
    "ｶﾞ": "カ",
    "ガ": "カ",
    "Żółć": "zołc",
    "किताब": "कतब",
}


@pytest.mark.parametrize(("text", "expected"), FOLDED.items())
def test_case_accents_and_compatibility_forms_are_folded(text: str, expected: str) -> None:
    assert folded(text) == expected


WORDS = {
    "": [],
    " \t\n": [],
    "💡 -- !": [],
    "Mechanical keyboard, mechanical!": ["mechanical", "keyboard"],
    "ada.lovelace+spam@example.org": ["ada", "lovelace", "spam", "example", "org"],
    "1.2.3": ["1", "2", "3"],
    "3,5 mm² ½": ["3", "5", "mm2", "1", "2"],
    "snake_case": ["snake", "case"],
    "don't": ["don", "t"],
    "机械键盘 键盘": ["机械键盘", "键盘"],
    "Lamp💡Shade": ["lamp", "shade"],
    "a:* & b | !c <-> (d)": ["a", "b", "c", "d"],
    'AND OR NOT NEAR("a" ^b)': ["and", "or", "not", "near", "a", "b"],
    "هذا ١٢٣": ["هذا", "١٢٣"],
    "किताब": ["कतब"],
}


@pytest.mark.parametrize(("text", "expected"), WORDS.items())
def test_words_are_rows_of_letters_and_digits_each_once(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_words_are_those_of_all_texts_and_no_word_spans_two() -> None:
    assert words("Desk", None, "lamp desk") == ["desk", "lamp"]


def test_a_word_is_cut() -> None:
    assert words("x" * (LONGEST_WORD + 1), "x" * 500) == ["x" * LONGEST_WORD]


@given(st.text())
def test_a_word_is_of_letters_and_digits_alone(text: str) -> None:
    for word in words(text):
        assert word.isalnum()
        assert 1 <= len(word) <= LONGEST_WORD
        # What PostgreSQL takes as a lexeme.
        assert len(word.encode()) <= 2046


@given(st.text())
def test_folding_what_is_folded_changes_nothing_and_no_mark_is_left(text: str) -> None:
    once = folded(text)
    assert folded(once) == once
    assert not re.search("[A-Z]", once)
    assert not [each for each in unicodedata.normalize("NFKD", once) if unicodedata.combining(each)]


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_short_way_for_ascii_is_the_same(text: str) -> None:
    assert folded(text) == folded(text + "é")[:-1]


def test_the_sort_key_fits_into_an_index_of_postgresql_whatever_the_name() -> None:
    for name in ("\ufdfa" * 255, "💡" * 255, "ΐ" * 255):
        key, _ = derived(name, None)
        assert 0 < len(key) <= LONGEST_NAME_KEY
        assert len(key.encode()) < 2704 / 2


def test_a_product_has_the_words_of_its_name_and_description_from_whenever_they_are_set() -> None:
    product = Product(description="of Brass", name="Lämp")
    assert (product.name_key, product.words) == ("lamp", "lamp of brass")
    product.description = None
    assert (product.name_key, product.words) == ("lamp", "lamp")
    product.name = "Desk"
    assert (product.name_key, product.words) == ("desk", "desk")
