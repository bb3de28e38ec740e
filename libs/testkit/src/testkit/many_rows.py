"""Fills the databases of both services with any number of rows, for tests of query plans and for benchmarks."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl

from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from product_service.api.product_query import ProductQuery
from product_service.repositories.products import ProductRepository

FEWEST = 10_000
"""The fewest products for which SELECTIVE_FILTERS select anything."""

ORDERS = ("id", "name", "price", "quantity", "created_at", "updated_at")

_SEARCH_INDEX = "SCAN products_search VIRTUAL TABLE|Bitmap Index Scan on ix_products_search"

SELECTIVE_FILTERS = {
    "owner_id=7": "ix_products_owner_id_id",
    "category=category 7": "ix_products_category_id",
    # By id, PostgreSQL prefers to filter the primary key if it expects a page of matches early.
    "owner_id=7&owner_id=8&owner_id=9": "ix_products_owner_id_id|pk_products",
    "category=category 7&category=category 8": "ix_products_category_id|pk_products",
    "sku=S7777": "sqlite_autoindex_products_1|uq_products_sku",
    "min_price=50&max_price=51": "ix_products_price_id",
    "q=x7777u": _SEARCH_INDEX,
    "q=y70v": _SEARCH_INDEX,
    "q=y70v bra": _SEARCH_INDEX,
}
"""Each selects a few hundred products at most, however many there are. The values are patterns of query plans."""

# Names and words need no folding, so they equal what the service would store. One word is in every product, some are in
# many, some in a few, and one is unique, as in natural language. All columns have ties.
_PRODUCTS = """
INSERT INTO products (name, description, price, currency, quantity, sku, category, owner_id, version, created_at,
    updated_at, name_key, words)
SELECT name, words, 10000 + n * 7919 % :count * 100, 'USD', n % 7, 'S' || n,
    CASE WHEN n % 3 > 0 THEN 'category ' || (n % (:count / 200)) END, n % (:count / 100) + 1, 1, moment, moment,
    name, words
FROM (
    SELECT n, 'product ' || (n * 7919 % :count) AS name, {moment} AS moment,
        'product x' || n || 'u y' || (n % (:count / 50)) || 'v z' || (n * 7 % (:count / 1000)) || 'w'
            || CASE WHEN n % 10 = 0 THEN ' brass' ELSE '' END AS words
    FROM numbers
) AS made
"""
_CHANGES = """
INSERT INTO changes (product_id, owner_id, version, action, changed_by, changed_at)
SELECT id, owner_id, 1, 'created', owner_id, created_at FROM products
"""
_USERS = """
INSERT INTO users (username, username_key, password_hash, is_active, is_admin, created_at, updated_at)
SELECT 'user ' || n, 'user ' || n, '', true, false, {now}, {now} FROM numbers WHERE n > (SELECT count(*) FROM users)
"""
_SESSIONS = """
INSERT INTO sessions (user_id, created_at, last_used_at, expires_at, user_agent, ip, family_hash, refresh_hash)
SELECT CASE WHEN n > 1000 THEN n % (:count / 10) + 1 ELSE 1 END,
    {now}, {now}, {later}, 'curl/8.5.0', '203.0.113.7', 'f' || n, 'r' || n FROM numbers
"""
_DIALECTS = {
    "postgresql": {
        "numbers": "WITH numbers AS (SELECT n FROM generate_series(1, CAST(:count AS bigint)) AS numbers (n))",
        "moment": "TIMESTAMPTZ '2026-01-01Z' + n / 3 * INTERVAL '1s'",
        "now": "now()",
        "later": "now() + n % 1000 * INTERVAL '1s' + INTERVAL '10 days'",
    },
    "sqlite": {
        "numbers": "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)",
        "moment": "datetime('2026-01-01', (n / 3) || ' seconds') || '.000000'",
        "now": "datetime() || '.000000'",
        "later": "datetime('now', '10 days', (n % 1000) || ' seconds') || '.000000'",
    },
}
_BEFORE = {"postgresql": (), "sqlite": ("PRAGMA cache_size = -1000000", "PRAGMA synchronous = OFF")}
_AFTER = {"postgresql": ("VACUUM ANALYZE",), "sqlite": ("ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)")}


def fill_products(engine: Engine, count: int) -> None:
    """Insert products, each with the history of its creation, and update the statistics.

    :param engine: without transactions
    :param count: a multiple of FEWEST
    """
    _run(engine, (_PRODUCTS, count), (_CHANGES, count))


def fill_sessions(engine: Engine, count: int) -> None:
    """Insert sessions after inserting the accounts that are missing; see `fill_products`.

    An account has ten of them, and the first one also has the thousand oldest, as a script that often logs in has.
    """
    _run(engine, (_USERS, count // 10), (_SESSIONS, count))


def _run(engine: Engine, *statements: tuple[str, int]) -> None:
    name = engine.dialect.name
    with engine.connect() as connection:
        for each in _BEFORE[name]:
            connection.exec_driver_sql(each)
        for statement, count in statements:
            parts = _DIALECTS[name]
            connection.execute(text(f"{parts['numbers']} {statement.format(**parts)}"), {"count": count})
        for each in _AFTER[name]:
            connection.exec_driver_sql(each)


def read_all_statistics(engine: Engine) -> None:
    """Let the statistics of PostgreSQL be those of all rows: by default they are of a sample, and plans vary."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.exec_driver_sql("SET default_statistics_target = 1000")
            connection.exec_driver_sql("ANALYZE")


def explain(engine: Engine, work: Callable[[Session], object]) -> str:
    """The query plan of the first statement of the work."""
    executed: list[tuple[str, Any]] = []
    with Session(engine) as session:
        event.listen(engine, "before_cursor_execute", lambda *event: executed.append((event[2], event[3])), once=True)
        work(session)
        [(statement, values)] = executed
        command = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
        rows = session.connection().exec_driver_sql(f"{command} {statement}", values)
        return "\n".join(str(row[-1]) for row in rows)


def parse(filters: str, sort: str) -> ProductQuery:
    """The query with these filters, which are not escaped."""
    several = {name: values for name, values in parse_qs(filters).items() if name in ("owner_id", "category")}
    return ProductQuery.model_validate({**dict(parse_qsl(filters)), **several, "sort": sort})


def middle(engine: Engine, sort: str) -> dict[str, str]:
    """The parameters of the page that starts in the middle of the list."""
    query = ProductQuery.model_validate({"sort": sort})
    with Session(engine) as session:
        count = session.scalar(text("SELECT count(*) FROM products")) or 0
        [last] = ProductRepository(session).selected(query.criteria, 1, skip=count // 2)
    return {name: str(value) for name, value in query.next_page(last).items()}
