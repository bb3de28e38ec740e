"""SQLite and PostgreSQL behind one behaviour: the same calls get the same answers."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from product_fixtures import migrations_of
from product_support import ADA, BOB, UserServiceStub

from chassis.testing.differences import SETTINGS, Both, Call, on_both
from product_service.main import create_app
from product_service.settings import Settings

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
TEXTS = st.text(max_size=8) | st.sampled_from(AWKWARD)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "name": TEXTS | st.sampled_from(["💡" * 255, "x" * 256]),
    "description": TEXTS | st.sampled_from(["é\n" * 500, "x" * 1001, None]),
    "price": st.sampled_from([1, 0, -1, "19.99", "0.0001", "9999999999.9999", 10**10, 10**30, "1e5", True, None]),
    "currency": st.sampled_from(["USD", "JPY", "CLF", "usd", "", None]),
    "quantity": st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, 2**63, 2**64, 1.5, "1", True, None]),
    # Few of them, so that some are taken.
    "sku": st.sampled_from(["A", "a", "ä", "a\u0308", "A ", "", "ß" * 64, "x" * 65, None]),
    "category": TEXTS | st.none(),
}
PATCHES = st.fixed_dictionaries({}, optional=FIELDS)
# Most of those with many fields are refused for one of them; those with one are stored, or meet what is.
CHANGES = PATCHES | st.one_of(*(st.fixed_dictionaries({name: values}) for name, values in FIELDS.items()))
DRAFTS = CHANGES.map(lambda fields: {"name": "Lamp", "price": "19.99", "quantity": 3, "sku": "A", **fields})
IDS = st.sampled_from(["{1}", "{2}", "{3}", "{4}", "{5}", 0, -1, 2**31, 2**63 - 1, 2**63, 2**64])
PRODUCTS = IDS.map(lambda row_id: f"/products/{row_id}")
PAGES = st.sampled_from(["", "?limit=2", "?limit=2&skip=1", "?skip=-1", "?skip=9999", "?limit=0", "?skip=" + "9" * 20])
TOKENS = st.sampled_from([ADA, ADA, ADA, BOB, None])
CALLS = st.one_of(
    st.builds(Call, st.just("POST"), st.just("/products"), DRAFTS, TOKENS),
    st.builds(Call, st.just("GET"), PAGES.map(lambda page: f"/products{page}")),
    st.builds(Call, st.just("GET"), PRODUCTS),
    st.builds(Call, st.just("PUT"), PRODUCTS, CHANGES, TOKENS),
    st.builds(Call, st.just("DELETE"), PRODUCTS, st.none(), TOKENS),
)


@pytest.fixture
async def both(backend: str, tmp_path: Path, user_service: UserServiceStub) -> AsyncIterator[Both]:
    def make_app(url: str) -> FastAPI:
        return create_app(Settings(_env_file=None, database_url=url, user_service_url=user_service.url))

    async with on_both(tmp_path, migrations_of, make_app) as both:
        yield both


@pytest.mark.postgresql
@SETTINGS
@given(calls=st.lists(CALLS, min_size=20, max_size=50))
async def test_the_database_makes_no_difference_to_a_client(both: Both, calls: list[Call]) -> None:
    await both.answer_alike(calls)
