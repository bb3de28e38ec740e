"""SQLite and PostgreSQL give the same responses to the same calls."""

from collections.abc import AsyncIterator
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from product_service.main import create_app
from testkit.differences import SETTINGS, Both, Call, on_both
from testkit.products import MakeSettings, migrations_of
from testkit.user_service_stub import ADA, BOB

AWKWARD = [
    "",
    " ",
    "a",
    "A",
    "ä",
    "a\u0308",
    "ß",
    "ẞ",
    "\x00",
    "a\x00",
    "\x1f",
    "\n",
    "💡",
    "İ",
    "'; --",
    "\\",
    "%",
    "_",
]
WORDY = ["lamp", "Straße a", "机械 1.2", "ada@example.org"]
TEXTS = st.text(max_size=8) | st.sampled_from(AWKWARD) | st.sampled_from(WORDY)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "name": TEXTS | st.sampled_from(["💡" * 255, "x" * 256]),
    "description": TEXTS | st.sampled_from(["é\n" * 500, "x" * 10_001, None]),
    "price": st.sampled_from([1, 0, -1, "19.99", "0.0001", "9999999999.9999", 10**10, 10**30, "1e5", True, None]),
    "currency": st.sampled_from(["USD", "JPY", "CLF", "usd", "", None]),
    "quantity": st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, 2**63, 2**64, 1.5, "1", True, None]),
    # Few values, so that some are already taken.
    "sku": st.sampled_from(["A", "a", "ä", "a\u0308", "A ", "", "ß" * 64, "x" * 65, None]),
    "category": TEXTS | st.none(),
}
PATCHES = st.fixed_dictionaries({}, optional=FIELDS)
# Most patches with many fields are invalid. Patches with one field get stored, or conflict.
CHANGES = PATCHES | st.one_of(*(st.fixed_dictionaries({name: values}) for name, values in FIELDS.items()))
DRAFTS = CHANGES.map(lambda fields: {"name": "Lamp", "price": "19.99", "quantity": 3, "sku": "A", **fields})
IDS = st.sampled_from(["{1}", "{2}", "{3}", "{4}", "{5}", 0, -1, 2**31, 2**63 - 1, 2**63, 2**64])
PRODUCTS = IDS.map(lambda row_id: f"/products/{row_id}")
PAGES = st.sampled_from(["", "?limit=2", "?limit=2&skip=1", "?skip=-1", "?skip=9999", "?limit=0", "?skip=" + "9" * 20])
SEARCHES = TEXTS | st.sampled_from(
    [
        *(
            "lamp",
            "l a",
            "LÄMP",
            "ss",
            "ß",
            "机",
            "1.2",
            "ada@example.org",
            "a AND b",
            "NOT a",
            "NEAR(a b)",
            "a*",
            "^a",
        ),
        *("a & b", "a | b", "!a", "a <-> b", "a:*", "'a'", '"a"', "(a", "a)", "\\a", "💡 a", "x" * 200),
    ]
)
PARAMETERS: dict[str, st.SearchStrategy[Any]] = {
    "sort": st.sampled_from(
        ["name", "-name", "price", "-price", "quantity", "-created_at", "updated_at", "-id", "sku"]
    ),
    "q": SEARCHES,
    "min_price": st.sampled_from(["0", "1", "19.99", "1e5", "-1"]),
    "max_price": st.sampled_from(["0", "19.990", "9999999999.9999", "NaN"]),
    "currency": st.sampled_from(["USD", "JPY", "usd"]),
    "category": TEXTS,
    "sku": FIELDS["sku"],
    "in_stock": st.sampled_from(["true", "false", "1"]),
    "owner_id": st.sampled_from([1, 2, 0, 2**63]),
    "updated_since": st.sampled_from(
        ["2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "x"]
    ),
    "count": st.sampled_from(["true", "false"]),
    "limit": st.sampled_from([1, 2, 0]),
    "skip": st.sampled_from([1, 10_001]),
}
# One parameter at a time, so that most lists are not empty.
LISTS = st.one_of(
    *(st.fixed_dictionaries({name: values}) for name, values in PARAMETERS.items()),
    st.fixed_dictionaries({"sort": st.sampled_from(["name", "-name", "-price"]), "limit": st.just(2)}),
)
TOKENS = st.sampled_from([ADA, ADA, ADA, BOB, None])
CALLS = st.one_of(
    st.builds(Call, st.just("POST"), st.just("/products"), DRAFTS, TOKENS),
    st.builds(Call, st.just("GET"), PAGES.map(lambda page: f"/products{page}")),
    st.builds(Call, st.just("GET"), LISTS.map(lambda query: f"/products?{urlencode(query)}")),
    st.just(Call("GET", "next")),
    st.builds(Call, st.just("GET"), PRODUCTS),
    st.builds(Call, st.just("PUT"), PRODUCTS, CHANGES, TOKENS),
    st.builds(Call, st.just("DELETE"), PRODUCTS, st.none(), TOKENS),
)


@pytest.fixture
async def both(make_settings: MakeSettings, tmp_path: Path) -> AsyncIterator[Both]:
    def make_app(url: str) -> FastAPI:
        return create_app(make_settings(database_url=url))

    async with on_both(tmp_path, migrations_of, make_app) as both:
        yield both


@pytest.mark.postgresql
@SETTINGS
@given(calls=st.lists(CALLS, min_size=20, max_size=50))
async def test_random_calls_get_the_same_responses(both: Both, calls: list[Call]) -> None:
    await both.assert_equal_answers(calls)


DIFFERENT_WORDS = [
    *(
        "Lämpchen",
        "lampe",
        "Straße",
        "STRASSE",
        "ẞ",
        "İi",
        "\u017f",
        "ﬁ",
        "机械键盘",
        "键盘",
        "ガ",
        "한국어",
        "किताब",
        "กิน",
    ),
    *("💡", "💡a", "a💡b", "👩\u200d👧", "ada.lovelace+x@example.org", "1.2.3", "12,5 mm²", "½", "١٢٣", "x_y", "don't"),
    *("AND", "OR", "NOT", "NEAR", "a AND b", "a & b", "a | b", "!a", "a <-> b", "a:*", "'a'", '"a"', "(a", "a)", "^a"),
    *(
        "\\a",
        "a\\",
        "%",
        "a;b",
        "--",
        "a\u00a0b",
        "a\u0301",
        "\u0301",
        "é",
        "E\u0301",
        "Æ",
        "ø",
        "ŉ",
        "\ufdfa",
        "x" * 150,
    ),
    *(
        "Łosoś",
        "smørrebrød",
        "cœur",
        "đ",
        "ħ",
        "ısparta",
        "ISPARTA",
        "key\u00adboard",
        "a\u200bb",
        "o\u02bcb",
        "ғ",
        "ə",
    ),
]


@pytest.mark.postgresql
async def test_words_and_names_get_the_same_responses(both: Both) -> None:
    drafts = [{"name": f"a {word}", "description": word, "price": 1, "quantity": 1} for word in DIFFERENT_WORDS]
    drafts += [{"name": word, "price": 1, "quantity": 1} for word in DIFFERENT_WORDS]
    terms = [*DIFFERENT_WORDS, *(word[:2] for word in DIFFERENT_WORDS), *"abcxyz"]
    searches = [
        {"q": q, "sort": sort, "limit": 100, "count": "true"}
        for q, sort in zip(terms, cycle(("name", "-name")), strict=False)
    ]
    walk = [Call("GET", "/products?sort=name&limit=7"), *[Call("GET", "next")] * (len(drafts) // 7)]
    lists = [Call("GET", f"/products?{urlencode(search)}") for search in searches]
    await both.assert_equal_answers([*(Call("POST", "/products", draft, ADA) for draft in drafts), *walk, *lists])
