"""`tools.expanding`: migrations that take something away from an older version are found, and no others."""

from pathlib import Path

import pytest

from tests.launcher.launching import ROOT
from tools.expanding import contracting_operations, problems

MIGRATION = '''"""Drop table, in the docstring only."""

revision = "product_service_0009"
down_revision = "product_service_0008"
{floor}

def upgrade() -> None:
    """Rename nothing."""
    {operation}


def downgrade() -> None:
    op.drop_column("products", "colour")
    op.execute("ALTER TABLE products RENAME COLUMN a TO b")
'''
CONTRACTING = {
    'op.drop_table("products")': "drop_table drops something",
    'op.drop_column("products", "sku")': "drop_column drops something",
    'op.drop_index("ix_products_sku_id", "products")': "drop_index drops something",
    "KIND.drop(op.get_bind())": "drop drops something",
    'op.rename_table("products", "goods")': "rename_table renames something",
    'op.alter_column("products", "sku", new_column_name="code")': "alter_column renames something",
    'op.alter_column("products", "sku", nullable=False)': "alter_column adds NOT NULL",
    'op.alter_column("products", "sku", nullable=is_sqlite)': "alter_column adds NOT NULL",
    'op.alter_column("products", "sku", server_default=None)': "alter_column drops a server default",
    'op.alter_column("products", "sku", type_=sa.String(9))': "existing_type is not known to be narrower",
    'op.alter_column("products", "sku", existing_type=sa.String(64), type_=sa.String(length=63))': "changes a type",
    'op.alter_column("products", "sku", existing_type=sa.Text(), type_=sa.String(length=63))': "changes a type",
    'op.alter_column("products", "sku", existing_type=sa.BigInteger(), type_=sa.Integer())': "changes a type",
    'op.add_column("products", sa.Column("a", sa.Text(), nullable=False))': "NOT NULL without a server default",
    'op.create_unique_constraint("uq_products_sku", "products", ["sku"])': "adds a constraint",
    'op.create_check_constraint("ck_products_sku", "products", "sku > 0")': "adds a constraint",
    'op.create_foreign_key("fk", "products", "owners", ["a"], ["b"])': "adds a constraint",
    'op.create_index("ix", "products", ["sku"], unique=True)': "create_index adds a constraint",
    'op.execute("alter table products drop column sku")': "SQL with DROP COLUMN",
    'op.execute(f"DROP TRIGGER products_{event}")': "SQL with DROP TRIGGER",
    'op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE text")': "SQL with ALTER COLUMN",
    'op.execute("ALTER TABLE products ALTER sku SET NOT NULL")': "SQL with SET NOT",
    'op.execute("ALTER TABLE products RENAME sku TO code")': "SQL with RENAME",
    'op.execute("ALTER TABLE products ADD COLUMN a int NOT NULL")': "SQL with ADD COLUMN",
    'op.execute("ALTER TABLE products ADD CONSTRAINT a CHECK (true)")': "SQL with ADD CONSTRAINT",
    'statement = "DROP TABLE products"; op.execute(statement)': "SQL with DROP TABLE",
}
BATCH = 'with op.batch_alter_table("products") as table:\n        table.{}'
CONTRACTING |= {
    BATCH.format('drop_column("sku")'): "drop_column drops something",
    BATCH.format('alter_column("sku", nullable=False, existing_type=sa.Text())'): "alter_column adds NOT NULL",
    BATCH.format('add_column(sa.Column("a", sa.Text(), nullable=False))'): "NOT NULL without a server default",
    BATCH.format('create_unique_constraint("uq_products_sku", ["sku"])'): "adds a constraint",
}
NEW_TABLE = 'op.create_table("owners", sa.Column("id", sa.Integer(), nullable=False))\n    {}'
EXPANDING = [
    "pass",
    'op.create_index("ix", "products", ["sku"], unique=False)',
    BATCH.format('create_index("ix", ["sku"], unique=False)'),
    NEW_TABLE.format('op.create_index("ix", "owners", ["id"], unique=True)'),
    NEW_TABLE.format('op.create_unique_constraint("uq", "owners", ["id"])'),
    'op.add_column("products", sa.Column("a", sa.Text(), nullable=True))',
    'op.add_column("products", sa.Column("a", sa.Text()))',
    'op.add_column("products", sa.Column("a", sa.Text(), nullable=False, server_default="b"))',
    'op.add_column("products", sa.Column("a", sa.Text(), sa.Computed("name"), nullable=False))',
    'op.create_index("ix", "products", ["sku"])',
    'op.alter_column("products", "sku", nullable=True)',
    'op.alter_column("products", "sku", server_default="b")',
    'op.alter_column("products", "sku", existing_type=sa.String(64), type_=sa.String(65))',
    'op.alter_column("products", "sku", existing_type=sa.String(length=64), type_=sa.Text())',
    'op.alter_column("products", "sku", existing_type=sa.Integer(), type_=sa.BigInteger())',
    'op.execute("UPDATE products SET name = words WHERE sku IS NOT NULL")',
    'op.execute("ALTER TABLE products ADD COLUMN a int NOT NULL DEFAULT 0")',
]


def found(operation: str, floor: str = "") -> list[tuple[int, str]]:
    return contracting_operations(MIGRATION.format(operation=operation, floor=floor))


@pytest.mark.parametrize(("operation", "problem"), CONTRACTING.items())
def test_a_contracting_operation_needs_a_floor(operation: str, problem: str) -> None:
    [(line, text)] = found(operation)
    assert problem in text
    assert line in (9, 10)
    for floor in ('floor = "product_service_0009"', 'floor: str = "product_service_0008"'):
        assert found(operation, floor) == []


@pytest.mark.parametrize("operation", EXPANDING)
def test_an_expanding_operation_needs_none(operation: str) -> None:
    assert found(operation) == []


def test_a_problem_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "product-service" / "src" / "product_service" / "migrations"
    folder.mkdir(parents=True)
    source = MIGRATION.format(operation='op.drop_table("products")', floor="")
    (folder / "product_service_0009_dropped.py").write_text(source, encoding="utf-8")
    [problem] = problems(tmp_path)
    start = (
        "product-service/src/product_service/migrations/product_service_0009_dropped.py:9: drop_table drops something."
    )
    assert problem.startswith(start)
    assert "floor = " in problem


def test_the_services_have_no_such_migration() -> None:
    assert problems(ROOT) == []
