"""Query plans of the product list: every order and every selective filter uses an index."""

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.orm import Session

from product_service.api.product_query import ProductQuery
from product_service.domain.criteria import MAX_COUNT, Criteria
from product_service.repositories.products import ProductRepository
from testkit.databases import Databases
from testkit.many_rows import ORDERS, SELECTIVE_FILTERS, explain, fill_products, middle, parse, read_all_statistics
from testkit.products import migrations_of

ROWS = 100_000


@pytest.fixture(scope="module")
def large(databases: Databases) -> Iterator[Engine]:
    """A database with 100,000 products and current statistics."""
    with databases.made() as make:
        engine = create_engine(make(migrations_of), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        fill_products(engine, ROWS)
        read_all_statistics(engine)
        yield engine


def plan(database: Engine, query: ProductQuery) -> str:
    """The query plan of a page."""
    after = query.cursor.after if query.cursor else None

    def work(session: Session) -> None:
        products = ProductRepository(session)
        assert products.selected(query.selection.criteria, query.limit + 1, skip=query.skip or 0, after=after)

    return explain(database, work)


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
    for query in (
        ProductQuery.model_validate({"sort": sign + order}),
        ProductQuery.model_validate(middle(large, sign + order)),
    ):
        found = plan(large, query)
        assert not re.search("Sort|Seq Scan|TEMP B-TREE", found), found
        if is_sqlite and order == "id":
            assert re.fullmatch(r"SCAN products|SEARCH products USING INTEGER PRIMARY KEY \(rowid[<>]\?\)", found)
        else:
            assert f" {index_of(order)}" in found
        if query.cursor:
            # The scan starts at the cursor, not at the beginning.
            assert re.search(r"SEARCH products" if is_sqlite else "Index Cond: ", found), found


@pytest.mark.parametrize("sort", ["id", "-id", "price", "-name", "quantity"])
@pytest.mark.parametrize("filters", SELECTIVE_FILTERS)
def test_selective_filter_uses_an_index_in_every_order(large: Engine, filters: str, sort: str) -> None:
    found = plan(large, parse(filters, sort))
    assert "Seq Scan" not in found
    assert re.search(SELECTIVE_FILTERS[filters], found), found


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
    found = plan(large, parse(filters, "-id"))
    assert not re.search("Sort|TEMP B-TREE", found), found


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_page_amid_equal_values_reads_only_its_own_rows(large: Engine, sign: str) -> None:
    """A seventh of the products have the same quantity; on SQLite, a row comparison reads all of these."""
    found = plan(large, ProductQuery.model_validate(middle(large, f"{sign}quantity")))
    if large.dialect.name == "sqlite":
        assert re.search(r"SEARCH products USING INDEX ix_products_quantity_id \(quantity=\? AND id[<>]\?\)", found)
        assert "TEMP B-TREE" not in found
    else:
        assert re.search(r"Index Cond: \(ROW\(quantity, id\) [<>] ROW", found), found


@pytest.mark.parametrize("sort", ["price", "-name", "-updated_at"])
def test_skipped_products_are_not_read(large: Engine, sort: str) -> None:
    found = plan(large, ProductQuery.model_validate({"sort": sort, "skip": 10_000}))
    index = "USING COVERING INDEX" if large.dialect.name == "sqlite" else "Index Only Scan( Backward)? using"
    assert re.search(rf"{index} {index_of(sort.removeprefix('-'))}", found), found


def test_a_search_is_run_once_for_a_page_amid_equal_values(large: Engine) -> None:
    """It reads what it finds before it looks at the order, so two statements would search twice."""
    with Session(large) as session:
        criteria = Criteria(q="brass", sort="quantity")
        [last] = ProductRepository(session).selected(criteria, 1, skip=100)
    query = ProductQuery.model_validate({"q": "brass", "sort": "quantity"})
    following = {name: str(value) for name, value in query.next_page(last).items()}
    assert plan(large, ProductQuery.model_validate(following)).count("products_search") <= 1
