"""The user agent and the address of a session's last refresh."""

import sqlalchemy as sa
from alembic import op

revision = "user_service_0005"
down_revision = "user_service_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("refresh_user_agent", sa.String(length=255), nullable=True))
    op.add_column("sessions", sa.Column("refresh_ip", sa.String(length=45), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "refresh_ip")
    op.drop_column("sessions", "refresh_user_agent")
