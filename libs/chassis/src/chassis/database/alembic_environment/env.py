"""Alembic's entry point. `chassis.database.migrations` passes the models and the connection that holds the lock."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy.types import TypeDecorator


def _plain_type(kind: str, item: Any, _: AutogenContext) -> str | Literal[False]:
    """Write plain types into migrations: our column types may change later, but migrations must not."""
    return f"sa.{item.impl!r}" if kind == "type" and isinstance(item, TypeDecorator) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=context.config.attributes["metadata"],
    **context.config.attributes["comparison"],
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=_plain_type,
)
with context.begin_transaction():
    context.run_migrations()
