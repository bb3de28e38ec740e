"""Idempotency records: store only the body of the response."""

import sqlalchemy as sa
from alembic import op

revision = "product_service_0005"
down_revision = "product_service_0004"
floor = "product_service_0005"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "idempotency_records",
        sa.Column("id", _ID, sa.Identity(), nullable=False),
        sa.Column("caller_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("operation", sa.String(length=50), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency_records")),
        sa.UniqueConstraint(
            "caller_id", "key", "operation", name=op.f("uq_idempotency_records_caller_id_key_operation")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_idempotency_records_created_at"), "idempotency_records", ["created_at"])
    # Keep the stored responses, so that requests repeated after the migration still get them. The old fingerprints are
    # those of other data, and are dropped: an empty one matches every request.
    op.execute(
        "INSERT INTO idempotency_records (caller_id, key, operation, fingerprint, created_at, body) "
        "SELECT caller_id, key, "
        "CASE path WHEN '/products' THEN 'create' "
        "ELSE 'adjust-stock ' || replace(replace(path, '/products/', ''), '/stock', '') END, "
        "'', created_at, body FROM kept_answers ORDER BY id"
    )
    op.drop_index(op.f("ix_kept_answers_created_at"), table_name="kept_answers")
    op.drop_table("kept_answers")


def downgrade() -> None:
    op.create_table(
        "kept_answers",
        sa.Column("id", _ID, sa.Identity(), nullable=False),
        sa.Column("caller_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("method", sa.String(length=10), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_answers")),
        sa.UniqueConstraint(
            "caller_id", "key", "method", "path", name=op.f("uq_kept_answers_caller_id_key_method_path")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_kept_answers_created_at"), "kept_answers", ["created_at"])
    # Headers are no longer stored: the older version replays these responses without `Location` and `ETag`.
    op.execute(
        "INSERT INTO kept_answers (caller_id, key, method, path, request_hash, created_at, status, headers, body) "
        "SELECT caller_id, key, 'POST', "
        "CASE operation WHEN 'create' THEN '/products' "
        "ELSE '/products/' || replace(operation, 'adjust-stock ', '') || '/stock' END, "
        "fingerprint, created_at, CASE operation WHEN 'create' THEN 201 ELSE 200 END, '{}', body "
        "FROM idempotency_records ORDER BY id"
    )
    op.drop_index(op.f("ix_idempotency_records_created_at"), table_name="idempotency_records")
    op.drop_table("idempotency_records")
