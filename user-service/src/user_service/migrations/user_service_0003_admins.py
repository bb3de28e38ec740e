"""Admins."""

import sqlalchemy as sa
from alembic import op

revision = "user_service_0003"
down_revision = "user_service_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite needs a permanent server default to add a NOT NULL column in place; PostgreSQL keeps it too, to match.
    op.add_column("users", sa.Column("is_admin", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("users", "is_admin")
