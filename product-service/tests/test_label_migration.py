"""The migration that normalises SKUs and categories."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine, text

from chassis.database.migrations import Migrations
from chassis.database.refusals import MigrationRefused
from product_service.main import create_app
from testkit.applications import running
from testkit.product_list import ids
from testkit.products import MakeSettings, bearer, migrations_of, product, store
from testkit.user_service_stub import ADA

BEFORE = "product_service_0006"


@pytest.fixture
def migrations(empty_url: str) -> Migrations:
    migrations = migrations_of(empty_url)
    migrations.upgrade(BEFORE)
    return migrations


@pytest.fixture
def engine(empty_url: str, migrations: Migrations) -> Iterator[Engine]:
    engine = create_engine(empty_url, poolclass=NullPool)
    yield engine
    engine.dispose()


def labels(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [
            tuple(row) for row in connection.execute(text("SELECT sku, category, version FROM products ORDER BY id"))
        ]


LABELS = [
    ("A-1", "mugs"),
    (" B-1", None),
    ("C\u00a0 1", "cafe\u0301\u200b"),
    ("\u200b", " \u00ad"),
    (None, "mugs\u00a0"),
    (None, None),
    ("机械", "💡"),
]


async def test_labels_are_normalised_with_an_entry_in_the_history(
    engine: Engine, migrations: Migrations, empty_url: str, make_settings: MakeSettings
) -> None:
    store(engine, [product(sku=sku, category=category) for sku, category in LABELS])
    migrations.upgrade()
    expected = [
        ("A-1", "mugs", 1),
        ("B-1", None, 2),
        ("C 1", "café", 2),
        (None, None, 2),
        (None, "mugs", 2),
        (None, None, 1),
        ("机械", "💡", 1),
    ]
    assert labels(engine) == expected
    async with running(create_app(make_settings(database_url=empty_url))) as client:
        assert ids(await client.get("/products?category=mugs")) == [1, 5]
        [entry] = (await client.get("/products/3/history", headers=bearer(ADA))).json()
        assert (entry["action"], entry["changed_by"], entry["version"]) == ("changed", 0, 2)
        assert entry["before"] == {"sku": "C\u00a0 1", "category": "cafe\u0301\u200b"}
        assert entry["after"] == {"sku": "C 1", "category": "café"}
        changed = (await client.get("/products/3")).json()
        assert changed["updated_at"] == entry["changed_at"]
        assert (await client.get("/products/1/history", headers=bearer(ADA))).json() == []
    migrations.downgrade(BEFORE)
    migrations.upgrade()
    assert labels(engine) == expected


def test_colliding_skus_are_reported_and_nothing_is_changed(engine: Engine, migrations: Migrations) -> None:
    skus = ["A 1", "B", "A\u00a01", "C ", "é", "b", " A 1", " C", "e\u0301", "D\u200b"]
    store(engine, [product(sku=sku, category=" mugs") for sku in skus])
    before = labels(engine)
    for dry_run in (True, False):
        with pytest.raises(MigrationRefused) as refused:
            migrations.upgrade(dry_run=dry_run)
        assert str(refused.value).splitlines() == [
            'the SKU "A 1" would belong to several products: 1 ("A 1"), 3 ("A\\xa01"), 7 (" A 1")',
            'the SKU "C" would belong to several products: 4 ("C "), 8 (" C")',
            'the SKU "é" would belong to several products: 5 ("é"), 9 ("e\u0301")',
            "nothing was migrated. With the version that you ran before, change these products, then try again",
        ]
        assert labels(engine) == before
    # As the version before would do.
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM products WHERE id = 9"))
        for number, sku in ((3, "A 2"), (7, "A 3"), (8, "C 2")):
            connection.execute(text("UPDATE products SET sku = :sku WHERE id = :id"), {"sku": sku, "id": number})
    assert migrations.upgrade(dry_run=True)
    assert labels(engine) != before
    migrations.upgrade()
    assert [sku for sku, _, _ in labels(engine)] == ["A 1", "B", "A 2", "C", "é", "b", "A 3", "C 2", "D"]


def test_label_that_would_become_too_long_is_reported(engine: Engine, migrations: Migrations) -> None:
    store(engine, [product(sku="\u0958" * 40), product(category="\u0958" * 60)])
    with pytest.raises(MigrationRefused) as refused:
        migrations.upgrade()
    assert str(refused.value).splitlines()[:-1] == [
        "the sku of product 1 would have 80 characters; 64 are allowed",
        "the category of product 2 would have 120 characters; 100 are allowed",
    ]
