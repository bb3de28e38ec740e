"""Small migrations of the library, for the tests of `chassis.database.migrations`."""

from collections.abc import Sequence
from pathlib import Path

from chassis.database.migrations import Migrations
from testkit.library import Base

FIRST = '''"""Shelves."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KIND = sa.Enum("prose", "verse", name="shelf_kind")


def upgrade() -> None:
    op.create_table(
        "shelves",
        sa.Column("id", ID, sa.Identity(), nullable=False),
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("kind", KIND, server_default="prose", nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("ck_shelves_name_is_not_empty")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shelves")),
        sa.UniqueConstraint("name", name=op.f("uq_shelves_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "books",
        sa.Column("id", ID, sa.Identity(), nullable=False),
        sa.Column("title", sa.String(length=50), nullable=False),
        sa.Column("shelf_id", ID, nullable=True),
        sa.ForeignKeyConstraint(
            ["shelf_id"], ["shelves.id"], name=op.f("fk_books_shelf_id_shelves"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_books")),
        sa.UniqueConstraint("title", name=op.f("uq_books_title")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_books_shelf_id"), "books", ["shelf_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_books_shelf_id"), table_name="books")
    op.drop_table("books")
    op.drop_table("shelves")
    KIND.drop(op.get_bind())
'''

# SQLite can do this only by re-creating the table.
SECOND = '''"""Names may be longer."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
KEEP = {"sqlite_autoincrement": True}


def upgrade() -> None:
    with op.batch_alter_table("shelves", table_kwargs=KEEP) as shelves:
        shelves.alter_column("name", type_=sa.String(length=80))


def downgrade() -> None:
    with op.batch_alter_table("shelves", table_kwargs=KEEP) as shelves:
        shelves.alter_column("name", type_=sa.String(length=50))
'''

CONTRACTING = SECOND.replace('down_revision = "0001"', 'down_revision = "0001"\nfloor = "0002"')

BROKEN = '''"""Leaves books without their shelf."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("UPDATE books SET title = title || '!'")
    op.execute("DELETE FROM shelves")


def downgrade() -> None:
    pass
'''


def write_migrations(folder: Path, *sources: str) -> Path:
    """Create a service's migrations folder with these migrations."""
    migrations = folder / "library" / "migrations"
    migrations.mkdir(parents=True, exist_ok=True)
    for number, source in enumerate(sources, start=1):
        (migrations / f"{number:04}_migration.py").write_text(source, encoding="utf-8")
    return migrations


def make_migrations(folder: Path, url: str, sources: Sequence[str] = (FIRST, SECOND)) -> Migrations:
    return Migrations(write_migrations(folder, *sources), Base.metadata, url)
