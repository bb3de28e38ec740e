"""Database access for the history of products."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from chassis.database.repository import BaseRepository
from product_service.domain.fields import snapshot
from product_service.domain.history import Action
from product_service.models import Product, ProductChange


class ProductChangeRepository(BaseRepository[ProductChange]):
    model = ProductChange

    def record_created(self, products: Iterable[Product], created_by: int) -> None:
        """Add an entry for each new product."""
        self.add_all(
            [_entry("created", each, created_by, each.created_at, None, snapshot(each), None) for each in products]
        )

    def record(
        self,
        action: Action,
        product: Product,
        changed_by: int,
        changed_at: datetime,
        before: dict[str, Any],
        after: dict[str, Any] | None,
        reason: str | None = None,
    ) -> None:
        """Add an entry for a change that has already been applied to the product."""
        self.add(_entry(action, product, changed_by, changed_at, before, after, reason))

    def of_product(self, product_id: int, before: int | None, limit: int) -> Sequence[ProductChange]:
        """Up to `limit` changes of a product, newest first.

        :param before: only changes with a smaller id; None for the newest
        """
        after = None if before is None else (before,)
        return self.page(limit, ProductChange.product_id == product_id, descending=True, after=after)


def _entry(
    action: Action,
    product: Product,
    changed_by: int,
    changed_at: datetime,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    reason: str | None,
) -> ProductChange:
    return ProductChange(
        product_id=product.id,
        owner_id=product.owner_id,
        version=product.version,
        action=action,
        changed_by=changed_by,
        changed_at=changed_at,
        reason=reason,
        before=before,
        after=after,
    )
