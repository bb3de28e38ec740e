"""Known networks of accounts."""

import sqlalchemy as sa
from alembic import op

revision = "user_service_0004"
down_revision = "user_service_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "known_networks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("network", sa.String(length=45), nullable=False),
        sa.Column("last_login_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_known_networks_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_known_networks")),
        sa.UniqueConstraint("user_id", "network", name=op.f("uq_known_networks_user_id_network")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_known_networks_last_login_at"), "known_networks", ["last_login_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_known_networks_last_login_at"), table_name="known_networks")
    op.drop_table("known_networks")
