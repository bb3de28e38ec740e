from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine, inspect, text
from sqlalchemy.exc import IntegrityError

from product_service.main import create_app
from product_service.models.products import derived
from product_service.settings import Settings
from testkit.applications import running
from testkit.databases import check_every_migration
from testkit.products import migrations_of, product, store


def test_the_models_and_the_migrated_database_are_the_same(empty_url: str) -> None:
    migrations = migrations_of(empty_url)
    assert migrations.differences() != []
    migrations.upgrade()
    assert migrations.differences() == []


def test_every_migration_goes_up_down_and_up_again_and_leaves_nothing(empty_url: str) -> None:
    check_every_migration(migrations_of(empty_url))
    engine = create_engine(empty_url)
    assert set(inspect(engine).get_table_names()) <= {"alembic_version", "sqlite_sequence"}
    engine.dispose()


def everything_about_products(url: str) -> dict[str, Any]:
    engine = create_engine(url)
    looked = inspect(engine)
    found = {
        "columns": {each["name"]: (str(each["type"]), each["nullable"]) for each in looked.get_columns("products")},
        "indexes": {each["name"]: each["column_names"] for each in looked.get_indexes("products")},
        "checks": sorted(str(each["name"]) for each in looked.get_check_constraints("products")),
        "primary key": looked.get_pk_constraint("products"),
    }
    engine.dispose()
    return found


OLD = [
    ("Lämpchen", None),
    ("Straße", "of Brass,\nof glass"),
    ("💡", "💡"),
    ("机械键盘", ""),
    *[("Lamp", "old")] * 2_500,
]
INSERT = text(
    "INSERT INTO products (name, description, price, currency, quantity, owner_id, version, created_at, updated_at) "
    "VALUES (:name, :description, 199900, 'USD', 1, 1, 1, '2026-01-01', '2026-01-01')"
)


async def test_products_from_before_the_search_are_found_and_sorted_like_others(empty_url: str) -> None:
    migrations = migrations_of(empty_url)
    migrations.upgrade("product_service_0001")
    before = everything_about_products(empty_url)
    engine = create_engine(empty_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(INSERT, [{"name": name, "description": description} for name, description in OLD])
        # The newest one is gone, and its id must not be given again.
        connection.execute(INSERT, {"name": "gone", "description": None})
        connection.execute(text("DELETE FROM products WHERE name = 'gone'"))
    migrations.upgrade()

    def stored() -> list[tuple[int, str, str, str | None]]:
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT id, name_key, words, description FROM products ORDER BY id"))
            return [(row.id, row.name_key, row.words, row.description) for row in rows]

    assert stored() == [(number, *derived(*old), old[1]) for number, old in enumerate(OLD, start=1)]
    [new_id] = store(engine, [product(name="New")])
    assert new_id > len(OLD) + 1
    async with running(create_app(Settings(_env_file=None, database_url=empty_url))) as client:
        for q, ids in (("lampchen", [1]), ("strasse brass", [2]), ("机", [4]), ("new", [new_id])):
            assert [each["id"] for each in (await client.get("/products", params={"q": q})).json()] == ids
        assert (await client.get("/products?q=lamp+old&count=true")).headers["x-total-count"] == "2500"
        by_name = (await client.get("/products?sort=-name&limit=3")).json()
        assert [each["name"] for each in by_name] == ["💡", "机械键盘", "Straße"]

    migrations.downgrade("product_service_0001")
    assert everything_about_products(empty_url) == before
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM products")).scalar_one() == len(OLD) + 1
    migrations.upgrade()
    assert [row[1] for row in stored()][-1] == "new"
    engine.dispose()


def test_a_product_without_what_is_derived_from_it_cannot_be_stored(database_url: str, database: Engine) -> None:
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(INSERT, {"name": "Lamp", "description": None})


def test_the_unique_constraint_that_the_repository_translates_has_its_name(empty_url: str) -> None:
    migrations_of(empty_url).upgrade()
    engine = create_engine(empty_url)
    names = {unique["name"] for unique in inspect(engine).get_unique_constraints("products")}
    engine.dispose()
    assert names == {"uq_products_sku"}


@pytest.mark.postgresql
def test_names_are_compared_byte_by_byte_whatever_the_locale_of_the_database(database: Engine) -> None:
    # The server of the tests sorts by bytes anyway, so that no list could show it.
    column = "SELECT collation_name FROM information_schema.columns WHERE column_name = 'name_key'"
    with database.connect() as connection:
        assert connection.execute(text(column)).scalar_one() == "C"
