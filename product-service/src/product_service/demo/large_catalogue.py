"""A large demo catalogue, written directly to the database: through the API it would take an hour.

The products are the same every time and have their number in the SKU, so existing ones are left unchanged.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from chassis.database.transactions import Database
from product_service.domain.fields import snapshot
from product_service.models import Product, ProductChange
from product_service.models.products import search_columns

BATCH_SIZE = 2_000
"""Products to store in one transaction."""

_FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
_QUALITIES = ("Plain", "Folding", "Compact", "Heavy", "Quiet", "Portable", "Sturdy", "Slim", "Foldable", "Nordic")
_MATERIALS = ("oak", "steel", "linen", "bamboo", "glass", "wool", "ceramic", "leather", "cork", "aluminium", "felt")
_THINGS = {
    "furniture": ("desk", "chair", "shelf", "stool", "bench", "cabinet", "café table"),
    "kitchen": ("teapot", "bowl", "pan", "cutting board", "kettle", "crème brûlée dish", "mug"),
    "lighting": ("desk lamp", "floor lamp", "lantern", "ceiling light", "candle holder"),
    "office": ("notebook", "pen holder", "monitor stand", "letter tray", "stapler", "bookend"),
    "outdoor": ("tent", "hammock", "picnic blanket", "camping stove", "water bottle"),
    None: ("gift box", "spare part", "mystery item"),
}
_REMARKS = (
    "Made to last.",
    "Ships flat.",
    "Easy to clean.",
    "Repairable at home.",
    "Comes in one piece.",
    "For indoors.",
)
_CURRENCIES = ("USD", "USD", "USD", "EUR", "EUR", "GBP", "JPY")


async def fill(
    database: Database[Session], owners: Sequence[int], count: int, report_progress: Callable[[int], None]
) -> int:
    """Store the first `count` products of the catalogue that do not exist yet. Returns the number stored.

    :param owners: ids of the accounts that own the products in turn
    :param report_progress: called after each batch with the number of products processed so far
    """
    stored = 0
    for first in range(0, count, BATCH_SIZE):
        rows = [row(number, owners[number % len(owners)]) for number in range(first, min(first + BATCH_SIZE, count))]
        stored += await database.write(lambda session, rows=rows: _store_missing(session, rows))  # type: ignore[misc]
        report_progress(first + len(rows))
    return stored


def row(number: int, owner_id: int) -> dict[str, Any]:
    """The column values of the product with this number."""
    draw = Random(number)  # noqa: S311 - demo data
    category = draw.choice(list(_THINGS))
    name = f"{draw.choice(_QUALITIES)} {draw.choice(_MATERIALS)} {draw.choice(_THINGS[category])} {number}"
    description = " ".join(draw.sample(_REMARKS, 2)) if draw.random() < 0.8 else None
    currency = draw.choice(_CURRENCIES)
    units = draw.randrange(3, 900)
    created_at = _FIRST_DAY + timedelta(minutes=number * 7)
    sku = f"LARGE-{number:07}"
    name_key, words = search_columns(name, description, sku)
    return {
        "name": name,
        "name_key": name_key,
        "words": words,
        "description": description,
        "price": Decimal(units * 100)
        if currency == "JPY"
        else Decimal(units) + draw.choice((Decimal("0.9"), Decimal(0))),
        "currency": currency,
        "quantity": draw.choice((0, draw.randrange(1, 500))),
        "sku": sku,
        "category": category,
        "owner_id": owner_id,
        "version": 1,
        "created_at": created_at,
        "updated_at": created_at,
    }


def _store_missing(session: Session, rows: list[dict[str, Any]]) -> int:
    existing = set(session.scalars(select(Product.sku).where(Product.sku.in_([row["sku"] for row in rows]))))
    missing = [row for row in rows if row["sku"] not in existing]
    if not missing:
        return 0
    products = session.scalars(insert(Product).returning(Product), missing).all()
    session.execute(
        insert(ProductChange),
        [
            {
                "product_id": product.id,
                "owner_id": product.owner_id,
                "version": 1,
                "action": "created",
                "changed_by": product.owner_id,
                "changed_at": product.created_at,
                "reason": None,
                "before": None,
                "after": snapshot(product),
            }
            for product in products
        ],
    )
    return len(missing)
