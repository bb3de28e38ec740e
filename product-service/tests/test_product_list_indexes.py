"""Query plans of the product list: every order and every selective filter uses an index."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import pytest
from sqlalchemy import Engine, NullPool, create_engine, event, text
from sqlalchemy.orm import Session

from product_service.api.product_query import ProductQuery
from product_service.domain.criteria import MAX_COUNT, Criteria
from product_service.repositories.products import ProductRepository
from testkit.databases import Databases
from testkit.products import migrations_of

ROWS = 100_000
ORDERS = ["id", "name", "price", "quantity", "created_at", "updated_at"]

# Names and words need no folding, so they equal what the service would store. One word is in every product, some are in
# many, some in a few, and one is unique, as in natural language. All columns have ties.
ON_POSTGRESQL = f"""
INSERT INTO products (name, description, price, currency, quantity, sku, category, owner_id, version, created_at,
    updated_at, name_key, words)
SELECT name, words, 10000 + n * 7919 % {ROWS} * 100, 'USD', n % 7, 'S' || n,
    CASE WHEN n % 3 > 0 THEN 'category ' || (n % 500) END, n % 1000 + 1, 1, moment, moment, name, words
FROM (
    SELECT n, 'product ' || (n * 7919 % {ROWS}) AS name, TIMESTAMPTZ '2026-01-01Z' + n / 3 * INTERVAL '1s' AS moment,
        'product x' || n || ' y' || (n % 2000) || ' z' || (n * 7 % 3000)
            || CASE WHEN n % 10 = 0 THEN ' brass' ELSE '' END AS words
    FROM generate_series(1, {ROWS}) AS numbers (n)
) AS made
"""
ON_SQLITE = (
    ON_POSTGRESQL.replace(f"generate_series(1, {ROWS}) AS numbers (n)", "numbers")
    .replace(
        "TIMESTAMPTZ '2026-01-01Z' + n / 3 * INTERVAL '1s'",
        "datetime('2026-01-01', (n / 3) || ' seconds') || '.000000'",
    )
    .replace(
        "INSERT INTO",
        f"WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {ROWS}) INSERT INTO",
        1,
    )
)


@pytest.fixture(scope="module")
def large(databases: Databases) -> Iterator[Engine]:
    """A database with 100,000 products and current statistics."""
    with databases.made() as make:
        engine = create_engine(make(migrations_of), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(ON_SQLITE if engine.dialect.name == "sqlite" else ON_POSTGRESQL))
            connection.exec_driver_sql("ANALYZE")
        yield engine


def plan(database: Engine, query: ProductQuery) -> str:
    """The query plan of a page."""
    executed: list[tuple[str, Any]] = []
    with Session(database) as session:
        event.listen(database, "before_cursor_execute", lambda *event: executed.append((event[2], event[3])), once=True)
        after = query.cursor.after if query.cursor else None
        assert ProductRepository(session).selected(query.selection.criteria, query.limit + 1, after=after)
        [(statement, values)] = executed
        explain = "EXPLAIN QUERY PLAN" if database.dialect.name == "sqlite" else "EXPLAIN"
        rows = session.connection().exec_driver_sql(f"{explain} {statement}", values)
        return "\n".join(str(row[-1]) for row in rows)


def middle(database: Engine, sort: str) -> ProductQuery:
    """The page that starts in the middle of the list."""
    query = ProductQuery.model_validate({"sort": sort})
    with Session(database) as session:
        [last] = ProductRepository(session).selected(query.criteria, 1, skip=ROWS // 2)
        return ProductQuery.model_validate({name: str(value) for name, value in query.next_page(last).items()})


def index_of(order: str) -> str:
    return {"id": "pk_products", "name": "ix_products_name_key_id"}.get(order, f"ix_products_{order}_id")


@pytest.mark.parametrize("q", ["product", "p", "zzz", None])
def test_a_count_stops_at_its_limit(large: Engine, q: str | None) -> None:
    with Session(large) as session:
        count = ProductRepository(session).count(Criteria(q=q), MAX_COUNT + 1)
    assert count == (0 if q == "zzz" else MAX_COUNT + 1)


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_uses_an_index(large: Engine, order: str, sign: str) -> None:
    is_sqlite = large.dialect.name == "sqlite"
    for query in (ProductQuery.model_validate({"sort": sign + order}), middle(large, sign + order)):
        found = plan(large, query)
        assert not re.search("Sort|Seq Scan|TEMP B-TREE", found), found
        if is_sqlite and order == "id":
            assert re.fullmatch(r"SCAN products|SEARCH products USING INTEGER PRIMARY KEY \(rowid[<>]\?\)", found)
        else:
            assert f" {index_of(order)}" in found
        if query.cursor:
            # The scan starts at the cursor, not at the beginning.
            assert re.search(r"SEARCH products" if is_sqlite else "Index Cond: ", found), found


FILTERS = {
    "owner_id=7": "ix_products_owner_id_id",
    "category=category 7": "ix_products_category_id",
    # By id, PostgreSQL prefers to filter the primary key if it expects a page of matches early.
    "owner_id=7&owner_id=8&owner_id=9": "ix_products_owner_id_id|pk_products",
    "category=category 7&category=category 8": "ix_products_category_id|pk_products",
    "sku=S77777": "sqlite_autoindex_products_1|uq_products_sku",
    "min_price=500&max_price=501": "ix_products_price_id",
    "q=x77777": "SCAN products_search VIRTUAL TABLE|Bitmap Index Scan on ix_products_search",
    "q=x777 bra": "SCAN products_search VIRTUAL TABLE|Bitmap Index Scan on ix_products_search",
}


def parsed(filters: str, sort: str) -> ProductQuery:
    query: dict[str, Any] = {**dict(parse_qsl(filters)), "sort": sort}
    query |= {name: values for name, values in parse_qs(filters).items() if name in ("owner_id", "category")}
    return ProductQuery.model_validate(query)


@pytest.mark.parametrize("sort", ["id", "-id", "price", "-name", "quantity"])
@pytest.mark.parametrize("filters", FILTERS)
def test_selective_filter_uses_an_index_in_every_order(large: Engine, filters: str, sort: str) -> None:
    found = plan(large, parsed(filters, sort))
    assert "Seq Scan" not in found
    assert re.search(FILTERS[filters], found), found


@pytest.mark.parametrize("sort", ["updated_at", "-updated_at"])
def test_changes_since_a_time_are_read_from_their_index(large: Engine, sort: str) -> None:
    found = plan(large, ProductQuery.model_validate({"updated_since": "2026-01-01T09:15:30Z", "sort": sort}))
    assert "ix_products_updated_at_id" in found
    assert not re.search("Sort|TEMP B-TREE", found), found
    assert re.search(r"updated_at>\?" if large.dialect.name == "sqlite" else "Index Cond: .*updated_at >=", found), (
        found
    )


@pytest.mark.parametrize("filters", ["owner_id=7", "category=category 7"])
def test_owner_and_category_filters_need_no_sort(large: Engine, filters: str) -> None:
    found = plan(large, parsed(filters, "-id"))
    assert not re.search("Sort|TEMP B-TREE", found), found
