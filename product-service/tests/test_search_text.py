"""Text normalisation for sorting and search."""

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from product_service.domain.search_text import (
    MAX_NAME_KEY_LENGTH,
    MAX_WORD_LENGTH,
    SPELLED_OUT,
    count_search_words,
    fold,
    search_words,
    words,
)
from product_service.models.products import search_columns
from testkit.products import product

FOLDED = {
    "Lamp": "lamp",
    "LÄMPCHEN": "lampchen",
    "La\u0308mpchen": "lampchen",
    "Straße": "strasse",
    "STRASSE": "strasse",
    "STRAẞE": "strasse",
    "Ærø": "aero",
    "Łosoś": "losos",
    "smørrebrød": "smorrebrod",
    "CŒUR": "coeur",
    "Đà Nẵng": "da nang",
    "Ħaż-Żebbuġ": "haz-zebbug",
    "Þórður": "thordur",
    "ŊUƷI": "nuʒi",
    "Gəncə": "gence",
    "Ǿ ǽ ẜ": "o ae s",
    "ISPARTA ısparta İSPARTA": "isparta isparta isparta",
    "Ґанок, ғ, ң": "ганок, г, н",
    "key\u00adboard": "keyboard",
    "key\u200bbo\u200card\u2060\ufeff": "keyboard",
    "\u202ekey\u3164": "key",
    "O\u02bcBrien ŉ": "o'brien 'n",
    "محـــمد": "محمد",
    "İstanbul": "istanbul",
    "ΌΔΟΣ οδος": "οδοσ οδοσ",
    "ﬁne": "fine",
    "\uff26\uff55\uff4c\uff4c": "full",
    "x²": "x2",
    "ｶﾞ": "カ",
    "ガ": "カ",
    "Żółć": "zolc",
    "किताब": "कतब",
}


@pytest.mark.parametrize(("text", "expected"), FOLDED.items())
def test_case_accents_and_compatibility_forms_are_folded(text: str, expected: str) -> None:
    assert fold(text) == expected


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
    "don\u02bct Hawai\u02bbi": ["don", "t", "hawai", "i"],
    "don’t": ["don", "t"],
    "soft\u00adware \u200b\u200d": ["software"],
    "机械键盘 键盘": ["机械", "械键", "键盘", "盘"],
    "iPhone手机壳2个": ["iphone", "手机", "机壳", "壳", "2", "个"],
    "ガラスのコップ": ["カラ", "ラス", "スの", "のコ", "コッ", "ッフ", "フ"],
    "คอมพิวเตอร์": ["คอ", "อม", "มพ", "พว", "วเ", "เต", "ตอ", "อร", "ร"],
    "ສະບາຍ": ["ສະ", "ະບ", "ບາ", "າຍ", "ຍ"],
    "ខ្មែរ": ["ខម", "មរ", "រ"],
    "မြန်မာ": ["မန", "နမ", "မ"],
    "한국어": ["\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165"],
    "𠮷野家": ["𠮷野", "野家", "家"],
    "」、。・": [],
    "Lamp💡Shade": ["lamp", "shade"],
    "a:* & b | !c <-> (d)": ["a", "b", "c", "d"],
    'AND OR NOT NEAR("a" ^b)': ["and", "or", "not", "near", "a", "b"],
    "هذا ١٢٣": ["هذا", "١٢٣"],
    "किताब": ["कतब"],
}


@pytest.mark.parametrize(("text", "expected"), WORDS.items())
def test_words_are_distinct_runs_of_letters_and_digits(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_words_of_several_texts_are_not_joined() -> None:
    assert words("Desk", None, "lamp desk") == ["desk", "lamp"]


def test_long_word_is_cut() -> None:
    assert words("x" * (MAX_WORD_LENGTH + 1), "x" * 500) == ["x" * MAX_WORD_LENGTH]


@given(st.text())
def test_words_contain_only_letters_and_digits(text: str) -> None:
    for word in words(text):
        assert word.isalnum()
        assert 1 <= len(word) <= MAX_WORD_LENGTH
        # The limit of a lexeme in PostgreSQL.
        assert len(word.encode()) <= 2046


def test_latin_letter_with_an_addition_is_folded_like_the_letter_without_it() -> None:
    for number in range(0xC0, 0x250):
        letter = chr(number)
        name, addition = f"{unicodedata.name(letter, '')} WITH ".split(" WITH ")[:2]
        # The middle dot of Catalan separates words.
        if re.search(" (CAPITAL|SMALL) LETTER .$", name) and addition.split()[:1] not in ([], ["MIDDLE"], ["SMALL"]):
            assert fold(letter) == fold(unicodedata.lookup(name)), letter


def test_readme_lists_the_letters_that_are_spelled_out() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for letter, spelling in SPELLED_OUT.items():
        assert f"{letter} → {spelling}" in readme


@given(st.text())
def test_folding_is_idempotent_and_removes_marks(text: str) -> None:
    once = fold(text)
    assert fold(once) == once
    assert not re.search("[A-Z]", once)
    assert not [each for each in unicodedata.normalize("NFKD", once) if unicodedata.combining(each)]


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_shortcut_gives_the_same_result(text: str) -> None:
    assert fold(text) == fold(text + "é")[:-1]


def test_sort_key_fits_into_a_postgresql_index() -> None:
    for name in ("\ufdfa" * 255, "💡" * 255, "ΐ" * 255):
        key, _ = search_columns(name, None, None)
        assert 0 < len(key) <= MAX_NAME_KEY_LENGTH
        assert len(key.encode()) < 2704 / 2


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("键盘", ["键盘"]),
        ("盘", ["盘"]),
        ("机械键盘", ["机械", "械键", "键盘"]),
        ("4K显示器 屏", ["4k", "显示", "示器", "屏"]),
    ],
)
def test_last_character_is_searched_only_alone(q: str, expected: list[str]) -> None:
    assert [word.text for word in search_words(q)] == expected


@pytest.mark.parametrize(
    ("q", "whole"),
    [
        ("c", []),
        ("C.c!", []),
        ("vitamin C", ["c"]),
        ("don't", ["t"]),
        ("1.2.30", ["1", "2"]),
        ("Ł ß", ["l"]),
        ("白 の lamp", []),
    ],
)
def test_single_letters_beside_other_words_are_whole_words(q: str, whole: list[str]) -> None:
    assert [word.text for word in search_words(q) if word.is_whole] == whole


@pytest.mark.parametrize(
    ("q", "count"),
    [("", 0), ("💡", 0), ("lamp LAMP Lämp", 1), ("R2-D2", 2), ("a b c d e f g h i", 9), ("机械键盘 4K显示器", 3)],
)
def test_words_are_counted_as_people_do(q: str, count: int) -> None:
    assert count_search_words(q) == count


def test_search_columns_follow_name_description_and_sku(database: Engine) -> None:
    with Session(database) as session:
        stored = product(description="of Brass", name="Lämp")
        session.add(stored)
        for changes, expected in (
            ({}, ("lamp", "lamp of brass")),
            ({"description": None}, ("lamp", "lamp")),
            ({"name": "Desk"}, ("desk", "desk")),
            ({"quantity": 7}, ("desk", "desk")),
            ({"sku": "D-7"}, ("desk", "desk d 7")),
            ({"sku": None}, ("desk", "desk")),
        ):
            for name, value in changes.items():
                setattr(stored, name, value)
            session.flush()
            session.expire(stored)
            assert (stored.name_key, stored.words) == expected
