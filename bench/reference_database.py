"""The database of the references: the smallest tables that hold what their responses contain."""

from sqlalchemy import Engine, NullPool, create_engine

PRODUCTS = 1000

_ID = {"sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT", "postgresql": "BIGSERIAL PRIMARY KEY"}
_TABLES = """
CREATE TABLE users (
    id {id}, username VARCHAR(50) NOT NULL UNIQUE, is_admin BOOLEAN NOT NULL, is_active BOOLEAN NOT NULL
);
CREATE TABLE sessions (
    id {id}, user_id BIGINT NOT NULL REFERENCES users (id), expires_at TIMESTAMP NOT NULL
);
CREATE TABLE products (
    id {id}, name VARCHAR(200) NOT NULL, description TEXT, price NUMERIC(12, 2) NOT NULL, currency CHAR(3) NOT NULL,
    quantity INTEGER NOT NULL, category VARCHAR(100), sku VARCHAR(64), owner_id BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL, updated_at TIMESTAMP NOT NULL, version INTEGER NOT NULL
);
INSERT INTO users (username, is_admin, is_active) VALUES ('ada', false, true);
INSERT INTO sessions (user_id, expires_at) VALUES (1, '2100-01-01')
"""
_PRODUCT = """
INSERT INTO products (name, description, price, currency, quantity, category, owner_id, created_at, updated_at, version)
VALUES ('Desk lamp', 'A lamp for a desk', 19.99, 'EUR', 3, 'lamps', 1, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, 1)
"""


def fill(url: str) -> None:
    """Create the tables with one account, its session and some products."""
    engine: Engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in _TABLES.format(id=_ID[engine.dialect.name]).split(";"):
            connection.exec_driver_sql(statement)
        for _ in range(PRODUCTS):
            connection.exec_driver_sql(_PRODUCT)
