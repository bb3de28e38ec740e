"""Admins."""

import sqlalchemy as sa
from alembic import op

revision = "user_service_0003"
down_revision = "user_service_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite adds a column in place, and keeps the default for good; PostgreSQL does the same, so that both are alike.
    op.add_column("users", sa.Column("is_admin", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("users", "is_admin")
