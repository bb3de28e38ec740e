"""Differential test: SQLite and PostgreSQL give the same responses to the same calls."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from testkit.differences import SETTINGS, Both, Call, on_both
from testkit.users import KEY, PASSWORD, migrations_of
from user_service.main import create_app
from user_service.settings import Settings

# A small set, so that some registrations conflict and some logins succeed.
NAMES = st.sampled_from(
    ["ada", "Ada", "ADA", "bob", "b.b", "b_b", "b%b", "ad\x00a", "ädä", "ﬁa", "x" * 50, "x" * 51, "", None, 7]
)
PASSWORDS = st.sampled_from(
    [PASSWORD, PASSWORD, PASSWORD.upper(), "short", "x" * 256, "x" * 257, "a\x00bcdefgh", "🔑" * 8]
)
CREDENTIALS = st.fixed_dictionaries({"username": NAMES, "password": PASSWORDS})
CALLS = st.one_of(
    st.builds(Call, st.just("POST"), st.just("/register"), CREDENTIALS),
    st.builds(Call, st.just("POST"), st.just("/login"), CREDENTIALS),
    st.builds(
        Call, st.just("POST"), st.just("/validate-token"), st.fixed_dictionaries({"token": st.text(max_size=20)})
    ),
    st.builds(Call, st.just("GET"), st.just("/me"), st.none(), st.sampled_from([None, "a.b.c"])),
    st.builds(Call, st.just("GET"), st.sampled_from(["/health", "/health/ready", "/nowhere", "/me?x=1"])),
)


@pytest.fixture
async def both(backend: str, tmp_path: Path) -> AsyncIterator[Both]:
    def make_app(url: str) -> FastAPI:
        return create_app(Settings(_env_file=None, database_url=url, secret_key=KEY.decode(), bcrypt_cost=4))

    async with on_both(tmp_path, migrations_of, make_app) as both:
        yield both


@pytest.mark.postgresql
@SETTINGS
@given(calls=st.lists(CALLS, min_size=20, max_size=50))
async def test_both_databases_return_the_same_responses(both: Both, calls: list[Call]) -> None:
    await both.assert_equal_answers(calls)
