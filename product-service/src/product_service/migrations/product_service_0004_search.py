"""Search, and an index for each sort order and filter of the list."""

import sqlalchemy as sa
from alembic import op

# The stored words must match those that the running version of the code searches for.
from product_service.models.products import search_columns

revision = "product_service_0004"
down_revision = "product_service_0003"
floor = "product_service_0004"
branch_labels = None
depends_on = None

BATCH = 1_000
INDEXED = ("name_key", "price", "quantity", "created_at", "updated_at", "owner_id", "category")

products = sa.table("products", *map(sa.column, ("id", "name", "description", "sku", "name_key", "words")))


def upgrade() -> None:
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    op.add_column("products", sa.Column("name_key", sa.String(255, collation=None if is_sqlite else "C")))
    op.add_column("products", sa.Column("words", sa.Text()))
    fill(connection)
    # SQLite recreates the table for this, and would otherwise lose AUTOINCREMENT and reuse ids.
    with op.batch_alter_table("products", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.alter_column("name_key", nullable=False, existing_type=sa.String(255))
        table.alter_column("words", nullable=False, existing_type=sa.Text())
    op.drop_index("ix_products_owner_id", "products")
    for column in INDEXED:
        op.create_index(f"ix_products_{column}_id", "products", [column, "id"])
    if is_sqlite:
        make_search_table()
    else:
        op.execute(
            "ALTER TABLE products ADD COLUMN search tsvector "
            "GENERATED ALWAYS AS (array_to_tsvector(string_to_array(words, ' '))) STORED"
        )
        op.create_index("ix_products_search", "products", ["search"], postgresql_using="gin")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for event in ("insert", "delete", "update"):
            op.execute(f"DROP TRIGGER products_search_{event}")
        op.execute("DROP TABLE products_search")
    else:
        op.drop_index("ix_products_search", "products")
        op.drop_column("products", "search")
    for column in INDEXED:
        op.drop_index(f"ix_products_{column}_id", "products")
    op.drop_column("products", "words")
    op.drop_column("products", "name_key")
    op.create_index("ix_products_owner_id", "products", ["owner_id"])


def fill(connection: sa.Connection) -> None:
    """Compute the columns of existing products, and store those that differ. Later migrations use this too."""
    page = sa.select(*products.c).order_by(products.c.id).limit(BATCH)
    last = 0
    while rows := connection.execute(page.where(products.c.id > last)).all():
        last = rows[-1].id
        computed = ((row, search_columns(row.name, row.description, row.sku)) for row in rows)
        changed = [(*columns, row.id) for row, columns in computed if columns != (row.name_key, row.words)]
        if not changed:
            continue
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("UPDATE products SET name_key = ?, words = ? WHERE id = ?", changed)
        else:
            name_keys, words, ids = map(list, zip(*changed, strict=True))
            # One round trip per batch: updating row by row takes ten times as long.
            connection.execute(
                sa.text(
                    "UPDATE products SET name_key = new.name_key, words = new.words FROM unnest("
                    "CAST(:ids AS bigint[]), CAST(:name_keys AS text[]), CAST(:words AS text[])"
                    ") AS new (id, name_key, words) WHERE products.id = new.id"
                ),
                {"ids": ids, "name_keys": name_keys, "words": words},
            )


def make_search_table() -> None:
    """Create an index of the words in `products`, which triggers keep up to date.

    A later migration that recreates `products` on SQLite drops the triggers, and must create them again.
    """
    # The tokenizer treats every non-ASCII character as part of a word, so it splits only at the stored spaces.
    # Word positions and column sizes are never queried, so they are not stored.
    op.execute(
        "CREATE VIRTUAL TABLE products_search USING fts5("
        "words, content = 'products', content_rowid = 'id', tokenize = 'ascii', detail = none, columnsize = 0)"
    )
    add = "INSERT INTO products_search (rowid, words) VALUES (new.id, new.words);"
    # FTS5 needs the old values to delete a row from the index.
    remove = "INSERT INTO products_search (products_search, rowid, words) VALUES ('delete', old.id, old.words);"
    for event, on, statements in (
        ("insert", "INSERT", add),
        ("delete", "DELETE", remove),
        ("update", "UPDATE OF words", remove + add),
    ):
        op.execute(f"CREATE TRIGGER products_search_{event} AFTER {on} ON products BEGIN {statements} END")
    op.execute("INSERT INTO products_search (products_search) VALUES ('rebuild')")
