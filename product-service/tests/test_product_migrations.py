"""The migrations of the product service."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, bindparam, create_engine, inspect, text
from sqlalchemy.exc import IntegrityError

from chassis.database.models import UtcDateTime
from product_service.main import create_app
from product_service.models.products import search_columns
from product_service.settings import Settings
from testkit.applications import running
from testkit.databases import check_every_migration
from testkit.products import DRAFT, MakeSettings, bearer, migrations_of, product, store
from testkit.user_service_stub import ADA


def test_migrated_database_matches_the_models(empty_url: str) -> None:
    migrations = migrations_of(empty_url)
    assert migrations.differences() != []
    migrations.upgrade()
    assert migrations.differences() == []


def test_every_migration_can_be_reverted_and_repeated(empty_url: str) -> None:
    check_every_migration(migrations_of(empty_url))
    engine = create_engine(empty_url)
    assert set(inspect(engine).get_table_names()) <= {"alembic_version", "sqlite_sequence"}
    engine.dispose()


def schema_of_products(url: str) -> dict[str, Any]:
    engine = create_engine(url)
    inspector = inspect(engine)
    found = {
        "columns": {each["name"]: (str(each["type"]), each["nullable"]) for each in inspector.get_columns("products")},
        "indexes": {each["name"]: each["column_names"] for each in inspector.get_indexes("products")},
        "checks": sorted(str(each["name"]) for each in inspector.get_check_constraints("products")),
        "primary key": inspector.get_pk_constraint("products"),
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


async def test_existing_products_get_search_columns(empty_url: str) -> None:
    migrations = migrations_of(empty_url)
    migrations.upgrade("product_service_0001")
    before = schema_of_products(empty_url)
    engine = create_engine(empty_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(INSERT, [{"name": name, "description": description} for name, description in OLD])
        # Delete the newest product: its id must not be reused.
        connection.execute(INSERT, {"name": "gone", "description": None})
        connection.execute(text("DELETE FROM products WHERE name = 'gone'"))
    migrations.upgrade()

    def stored() -> list[tuple[int, str, str, str | None]]:
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT id, name_key, words, description FROM products ORDER BY id"))
            return [(row.id, row.name_key, row.words, row.description) for row in rows]

    assert stored() == [(number, *search_columns(*old, None), old[1]) for number, old in enumerate(OLD, start=1)]
    [new_id] = store(engine, [product(name="New")])
    assert new_id > len(OLD) + 1
    async with running(create_app(Settings(_env_file=None, database_url=empty_url))) as client:
        for q, ids in (("lampchen", [1]), ("strasse brass", [2]), ("机", [4]), ("new", [new_id])):
            assert [each["id"] for each in (await client.get("/products", params={"q": q})).json()] == ids
        assert (await client.get("/products?q=lamp+old&count=true")).headers["x-total-count"] == "2500"
        by_name = (await client.get("/products?sort=-name&limit=3")).json()
        assert [each["name"] for each in by_name] == ["💡", "机械键盘", "Straße"]

    migrations.downgrade("product_service_0001")
    assert schema_of_products(empty_url) == before
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM products")).scalar_one() == len(OLD) + 1
    migrations.upgrade()
    assert [row[1] for row in stored()][-1] == "new"
    engine.dispose()


async def test_search_words_of_an_older_version_are_replaced(empty_url: str) -> None:
    migrations = migrations_of(empty_url)
    migrations.upgrade("product_service_0005")
    engine = create_engine(empty_url, poolclass=NullPool)
    store(engine, [product(name="Łosoś"), product(name="Lamp"), product(name="Œuvre", description="in oil")])
    store(engine, [product(name="机械键盘"), product(name="Desk", sku="KB-87 ")])
    old = {1: ("łosos", "łosos"), 3: ("œuvre", "œuvre in oil"), 4: ("机械键盘", "机械键盘"), 5: ("desk", "desk")}
    with engine.begin() as connection:
        for number, (name_key, words) in old.items():
            statement = text("UPDATE products SET name_key = :name_key, words = :words WHERE id = :id")
            connection.execute(statement, {"id": number, "name_key": name_key, "words": words})
    migrations.upgrade()
    migrations.downgrade("product_service_0005")
    migrations.upgrade()
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT name_key, words FROM products ORDER BY id"))
        assert [tuple(row) for row in rows] == [
            ("losos", "losos"),
            ("lamp", "lamp"),
            ("oeuvre", "oeuvre in oil"),
            ("机械键盘", "机械 械键 键盘 盘"),
            ("desk", "desk kb 87"),
        ]
    async with running(create_app(Settings(_env_file=None, database_url=empty_url))) as client:
        for q, ids in (("losos", [1]), ("oil œuvre", [3]), ("lamp", [2]), ("键盘", [4]), ("kb-87", [5])):
            assert [each["id"] for each in (await client.get("/products", params={"q": q})).json()] == ids
    engine.dispose()


def test_product_without_search_columns_is_rejected(database_url: str, database: Engine) -> None:
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(INSERT, {"name": "Lamp", "description": None})


def test_unique_constraint_has_the_name_that_the_repository_maps(empty_url: str) -> None:
    migrations_of(empty_url).upgrade()
    engine = create_engine(empty_url)
    names = {unique["name"] for unique in inspect(engine).get_unique_constraints("products")}
    engine.dispose()
    assert names == {"uq_products_sku"}


@pytest.mark.postgresql
def test_names_are_compared_byte_by_byte(database: Engine) -> None:
    # The test server sorts by bytes anyway, so a list of products could not show the difference.
    column = "SELECT collation_name FROM information_schema.columns WHERE column_name = 'name_key'"
    with database.connect() as connection:
        assert connection.execute(text(column)).scalar_one() == "C"


KEPT_ANSWER = text(
    "INSERT INTO kept_answers (caller_id, key, method, path, request_hash, created_at, status, headers, body) "
    "VALUES (1, 'a-key', 'POST', :path, 'the hash', :now, :status, '{}', :body)"
)


async def test_stored_responses_survive_the_migration_in_both_directions(
    empty_url: str, make_settings: MakeSettings
) -> None:
    migrations = migrations_of(empty_url)
    migrations.upgrade("product_service_0004")
    engine = create_engine(empty_url, poolclass=NullPool)
    kept = {"/products": (201, '{"id":7,"version":1}'), "/products/7/stock": (200, '{"id":7,"version":2}')}
    with engine.begin() as connection:
        for path, (status, body) in kept.items():
            values = {"path": path, "now": datetime.now(UTC), "status": status, "body": body}
            connection.execute(KEPT_ANSWER.bindparams(bindparam("now", type_=UtcDateTime)), values)
    migrations.upgrade()
    async with running(create_app(make_settings(database_url=empty_url))) as client:
        headers = {**bearer(ADA), "Idempotency-Key": "a-key"}
        created = await client.post("/products", json=DRAFT, headers=headers)
        adjusted = await client.post("/products/7/stock", json={"delta": -1, "reason": "sold"}, headers=headers)
    assert [(answer.status_code, answer.text) for answer in (created, adjusted)] == list(kept.values())
    assert (created.headers["location"], adjusted.headers["etag"]) == ("/products/7", '"2"')
    migrations.downgrade("product_service_0004")
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT method, path, status, body FROM kept_answers ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [("POST", path, *rest) for path, rest in kept.items()]
