"""Query plans: no call reads all accounts, or the sessions of others."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, NullPool, create_engine

from testkit.databases import Databases
from testkit.many_rows import explain, fill_sessions, read_all_statistics
from testkit.users import migrations_of
from user_service.repositories.sessions import SessionRepository
from user_service.repositories.users import UserRepository

SCRIPT = 1
"""The account that has the thousand oldest sessions."""


@pytest.fixture(scope="module")
def large(databases: Databases) -> Iterator[Engine]:
    """A database with 100,000 sessions, 10,000 accounts and current statistics."""
    with databases.made() as make:
        engine = create_engine(make(migrations_of), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        fill_sessions(engine, 100_000)
        read_all_statistics(engine)
        yield engine


@pytest.mark.parametrize("user_id", [SCRIPT, 500])
@pytest.mark.parametrize("before", [None, 900])
def test_the_sessions_of_an_account_are_read_in_the_order_of_its_index(
    large: Engine, user_id: int, before: int | None
) -> None:
    """By the primary key, PostgreSQL would expect the page soon, and read the sessions of all other accounts."""
    now = datetime.now(UTC)
    found = explain(large, lambda session: SessionRepository(session).list_active(user_id, now, 101, before=before))
    assert "ix_sessions_user_id_id" in found
    assert not re.search("Seq Scan|TEMP B-TREE|pk_sessions", found), found


def test_a_token_is_validated_by_primary_keys(large: Engine) -> None:
    now = datetime.now(UTC)
    found = explain(large, lambda session: SessionRepository(session).find_user(5000, 500, now))
    assert not re.search("Scan on|^SCAN", found), found


def test_expired_sessions_are_found_by_their_index(large: Engine) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    found = explain(large, lambda session: SessionRepository(session).delete_expired(later, 100))
    assert "ix_sessions_expires_at" in found


def test_admins_are_found_by_their_index(large: Engine) -> None:
    """Each deletion of an account, also of one's own, locks them."""
    found = explain(large, lambda session: UserRepository(session).lock_active_admins())
    assert "ix_users_admins" in found
    assert not re.search("Seq Scan|Sort|TEMP B-TREE", found), found


def test_the_list_of_admins_reads_no_other_accounts(large: Engine) -> None:
    found = explain(
        large, lambda session: UserRepository(session).list_after(0, 20, q=None, is_active=None, is_admin=True)
    )
    assert "ix_users_admins" in found
