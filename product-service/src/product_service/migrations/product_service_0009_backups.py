"""The time of the last backup."""

import sqlalchemy as sa
from alembic import op

revision = "product_service_0009"
down_revision = "product_service_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "backups",
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("finished_at", name=op.f("pk_backups")),
    )


def downgrade() -> None:
    op.drop_table("backups")
