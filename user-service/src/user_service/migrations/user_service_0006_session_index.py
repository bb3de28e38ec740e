"""An index in which an account's sessions are ordered."""

from alembic import op

revision = "user_service_0006"
down_revision = "user_service_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_sessions_user_id_id", "sessions", ["user_id", "id"])
    op.drop_index("ix_sessions_user_id", table_name="sessions")


def downgrade() -> None:
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.drop_index("ix_sessions_user_id_id", table_name="sessions")
