"""Normalise SKUs and categories. Refuses to migrate, and lists the products, if two would get the same SKU."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from chassis.database.models import UtcDateTime
from chassis.database.refusals import MigrationRefused
from product_service.domain.labels import without_invisible

revision = "product_service_0007"
down_revision = "product_service_0006"
branch_labels = None
depends_on = None

BATCH = 500
MAX_LENGTHS = {"sku": 64, "category": 100}
SERVICE = 0  # in place of the account that made a change

products = sa.table(
    "products",
    *map(sa.column, ("id", "sku", "category", "owner_id", "version")),
    sa.column("updated_at", UtcDateTime()),
)
changes = sa.table(
    "changes",
    *map(sa.column, ("product_id", "owner_id", "version", "action", "changed_by")),
    sa.column("changed_at", UtcDateTime()),
    sa.column("before", sa.JSON()),
    sa.column("after", sa.JSON()),
)


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.execute("LOCK TABLE products IN SHARE ROW EXCLUSIVE MODE")
    changed = find_changed(connection)
    refuse(collisions(connection, changed) + too_long(changed))
    now = datetime.now(UTC)
    for row, new in changed:
        values = {**new, "version": row.version + 1, "updated_at": now}
        connection.execute(sa.update(products).where(products.c.id == row.id).values(values))
        entry = {"product_id": row.id, "owner_id": row.owner_id, "version": row.version + 1, "action": "changed"}
        before = {name: getattr(row, name) for name in new}
        values = {**entry, "changed_by": SERVICE, "changed_at": now, "before": before, "after": new}
        connection.execute(sa.insert(changes).values(values))


def downgrade() -> None:
    # Normalised texts are valid in older versions too.
    pass


Changed = list[tuple[Any, dict[str, str | None]]]
"""Products with the new values of their SKU and category, if these differ."""


def find_changed(connection: sa.Connection) -> Changed:
    page = sa.select(*products.c).order_by(products.c.id).limit(BATCH)
    changed: Changed = []
    last = 0
    while rows := connection.execute(page.where(products.c.id > last)).all():
        last = rows[-1].id
        for row in rows:
            old = {"sku": row.sku, "category": row.category}
            new = {name: text and without_invisible(text) for name, text in old.items()}
            if different := {name: text for name, text in new.items() if text != old[name]}:
                changed.append((row, different))
    return changed


def collisions(connection: sa.Connection, changed: Changed) -> list[str]:
    """One line for each SKU that several products would get."""
    claims: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for row, new in changed:
        if sku := new.get("sku"):
            claims[sku].append((row.id, row.sku))
    skus = list(claims)
    for first in range(0, len(skus), BATCH):
        taken = sa.select(products.c.id, products.c.sku).where(products.c.sku.in_(skus[first : first + BATCH]))
        for number, sku in connection.execute(taken):
            claims[sku].insert(0, (number, sku))
    return [
        f"the SKU {visible(sku)} would belong to several products: "
        + ", ".join(f"{number} ({visible(old)})" for number, old in claim)
        for sku, claim in claims.items()
        if len(claim) > 1
    ]


def too_long(changed: Changed) -> list[str]:
    """One line for each text that composing makes too long, as it does for a few letters of Indic scripts."""
    return [
        f"the {name} of product {row.id} would have {len(text)} characters; {MAX_LENGTHS[name]} are allowed"
        for row, new in changed
        for name, text in new.items()
        if text and len(text) > MAX_LENGTHS[name]
    ]


def visible(text: str) -> str:
    return '"' + "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text) + '"'


def refuse(problems: list[str]) -> None:
    if problems:
        hint = "nothing was migrated. With the version that you ran before, change these products, then try again"
        raise MigrationRefused("\n".join([*problems, hint]))
