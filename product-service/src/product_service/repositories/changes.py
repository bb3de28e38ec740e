"""Database access for the history of products."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from chassis.database.repository import BaseRepository
from product_service.domain.fields import as_shown
from product_service.domain.history import FIRST_VERSION, Action
from product_service.models import Product, ProductChange


class ProductChangeRepository(BaseRepository[ProductChange]):
    model = ProductChange

    def record(
        self,
        action: Action,
        product: Product,
        changed_by: int,
        changed_at: datetime,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
        reason: str | None = None,
    ) -> None:
        """Add an entry for a change that has already been applied to the product."""
        self.insert(
            {
                "product_id": product.id,
                "owner_id": product.owner_id,
                "version": product.version,
                "action": action,
                "changed_by": changed_by,
                "changed_at": changed_at,
                "reason": reason,
                "before": before,
                "after": after,
            }
        )

    def record_created(
        self, ids: Iterable[int], products: Iterable[Mapping[str, Any]], created_by: int, created_at: datetime
    ) -> None:
        """Add an entry for each new product.

        :param products: their editable fields
        """
        entries = [
            {"product_id": product_id, "after": as_shown(fields)}
            for product_id, fields in zip(ids, products, strict=True)
        ]
        common = {"owner_id": created_by, "version": FIRST_VERSION}
        self.insert_many(entries, {**common, "action": "created", "changed_by": created_by, "changed_at": created_at})

    def record_changed(
        self,
        changes: Iterable[tuple[Product, dict[str, Any], dict[str, Any]]],
        changed_by: int,
        changed_at: datetime,
    ) -> None:
        """Add an entry for each change that has already been applied.

        :param changes: the products with their changed fields, before and after the change
        """
        entries = [
            {
                "product_id": product.id,
                "owner_id": product.owner_id,
                "version": product.version,
                "before": before,
                "after": after,
            }
            for product, before, after in changes
        ]
        self.insert_many(entries, {"action": "changed", "changed_by": changed_by, "changed_at": changed_at})

    def of_product(self, product_id: int, before: int | None, limit: int) -> Sequence[ProductChange]:
        """Up to `limit` changes of a product, newest first.

        :param before: only changes with a smaller id; None for the newest
        """
        after = None if before is None else (before,)
        return self.page(limit, ProductChange.product_id == product_id, descending=True, after=after)
