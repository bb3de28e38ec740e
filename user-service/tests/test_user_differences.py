"""SQLite and PostgreSQL behind one behaviour: the same calls get the same answers."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from user_fixtures import migrations_of
from user_support import KEY, PASSWORD

from chassis.testing import POSTGRESQL, SQLITE, Databases
from chassis.testing.differences import Answer, Call, answers
from user_service.main import create_app
from user_service.settings import Settings

# Few of them, so that some are taken, and some have an account to log in to.
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

# A sequence this long takes minutes to be made shorter; the first call that is answered differently tells enough.
PHASES = (Phase.explicit, Phase.generate)
# What the fixtures give stays the same for all examples; each makes its own databases.
CHECKS = (HealthCheck.function_scoped_fixture,)


@pytest.mark.postgresql
@settings(
    deadline=None,
    max_examples=10,
    derandomize=True,
    phases=PHASES,
    suppress_health_check=CHECKS,
)
@given(calls=st.lists(CALLS, min_size=20, max_size=50))
def test_the_database_makes_no_difference_to_a_client(backend: str, tmp_path: Path, calls: list[Call]) -> None:
    def on(backend: str) -> list[Answer]:
        databases = Databases(backend, tmp_path)
        with databases.made() as make:
            app = create_app(
                Settings(_env_file=None, database_url=make(migrations_of), secret_key=KEY.decode(), bcrypt_cost=4)
            )
            seen = asyncio.run(answers(app, calls))
        databases.close()
        return seen

    for one, other in zip(on(SQLITE), on(POSTGRESQL), strict=True):
        assert one == other
