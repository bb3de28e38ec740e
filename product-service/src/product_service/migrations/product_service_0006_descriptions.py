"""Descriptions of more than 1,000 characters. On SQLite, which ignores lengths, nothing changes."""

import sqlalchemy as sa
from alembic import op

revision = "product_service_0006"
down_revision = "product_service_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        # Changes the catalogue only; the table is not rewritten.
        op.alter_column("products", "description", existing_type=sa.String(length=1000), type_=sa.Text())


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        # Fails if there are longer descriptions, rather than cutting them.
        op.alter_column("products", "description", type_=sa.String(length=1000))
