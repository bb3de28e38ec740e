"""Indexes of an account's sessions in their order, and of admins."""

import sqlalchemy as sa
from alembic import op

revision = "user_service_0006"
down_revision = "user_service_0005"
floor = "user_service_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_sessions_user_id_id", "sessions", ["user_id", "id"])
    op.drop_index("ix_sessions_user_id", table_name="sessions")
    # The conditions as SQLAlchemy writes them in statements, because SQLite compares the text.
    op.create_index(
        "ix_users_admins", "users", ["id"], postgresql_where=sa.text("is_admin"), sqlite_where=sa.text("is_admin = 1")
    )


def downgrade() -> None:
    op.drop_index("ix_users_admins", table_name="users")
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.drop_index("ix_sessions_user_id_id", table_name="sessions")
