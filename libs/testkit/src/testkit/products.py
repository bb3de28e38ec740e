"""Helpers for the tests of product-service."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from chassis.database.migrations import Migrations
from product_service import composition
from product_service.models import Product
from product_service.settings import Settings
from testkit.user_service_stub import ADA

DRAFT: dict[str, Any] = {"name": "Lamp", "price": "19.99", "quantity": 3}

MakeSettings = Callable[..., Settings]


def migrations_of(url: str) -> Migrations:
    return composition.migrations(Settings.model_construct(database_url=url))


NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def product(**fields: Any) -> Product:
    """A product to be stored in the database directly, with `store`."""
    values = {"name": "Lamp", "price": Decimal("19.99"), "currency": "USD", "quantity": 3, "owner_id": 1}
    return Product(**{**values, "created_at": NEW_YEAR, "updated_at": NEW_YEAR, **fields})


def store(database: Engine, products: Iterable[Product]) -> list[int]:
    """Insert the products into the database, and return their ids."""
    with Session(database) as session:
        stored = list(products)
        session.add_all(stored)
        session.flush()
        ids = [each.id for each in stored]
        session.commit()
    return ids


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def create(client: httpx.AsyncClient, token: str = ADA, **changes: Any) -> dict[str, Any]:
    """Create a product, a lamp by default, and return the response."""
    answer = await client.post("/products", json={**DRAFT, **changes}, headers=bearer(token))
    assert answer.status_code == 201, answer.text
    product: dict[str, Any] = answer.json()
    return product
