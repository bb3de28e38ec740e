"""Recompute the search words and the sort keys of all products, because text is folded differently now."""

from alembic import op

from product_service.migrations.product_service_0004_search import fill

revision = "product_service_0008"
down_revision = "product_service_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        # A change of a product in the meantime would be overwritten with the words of its former texts.
        op.execute("LOCK TABLE products IN SHARE ROW EXCLUSIVE MODE")
    fill(connection)


def downgrade() -> None:
    # An older version searches the words as they are, and replaces those of a product when its texts change.
    pass
