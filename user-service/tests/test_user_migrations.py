from sqlalchemy import create_engine, inspect

from testkit.databases import check_every_migration
from testkit.users import migrations_of


def test_the_models_match_the_migrated_database(empty_url: str) -> None:
    migrations = migrations_of(empty_url)
    assert migrations.differences() != []
    migrations.upgrade()
    assert migrations.differences() == []


def test_every_migration_can_be_downgraded_and_reapplied(empty_url: str) -> None:
    check_every_migration(migrations_of(empty_url))
    engine = create_engine(empty_url)
    assert set(inspect(engine).get_table_names()) <= {"alembic_version", "sqlite_sequence"}
    engine.dispose()


def test_the_unique_constraint_has_the_name_that_the_repository_expects(empty_url: str) -> None:
    migrations_of(empty_url).upgrade()
    engine = create_engine(empty_url)
    names = {unique["name"] for unique in inspect(engine).get_unique_constraints("users")}
    engine.dispose()
    assert names == {"uq_users_username_key"}
