"""Products: what may happen to them, and who may do it."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from chassis.errors import FieldError, Invalid, PreconditionFailed
from product_service import money
from product_service.errors import InsufficientStock, NotTheOwner, ProductNotFound, TooMuchStock
from product_service.identity import Caller
from product_service.listing import ProductQuery
from product_service.models import Change, Product
from product_service.models.changes import Action
from product_service.repositories.changes import ChangeRepository
from product_service.repositories.products import ProductRepository
from product_service.schemas import ProductCreate, ProductPatch
from product_service.settings import WriteAccess

Versions = AbstractSet[int] | None
"""The versions of a product that a call may change; None is any."""


@dataclass(frozen=True)
class ProductPage:
    products: Sequence[Product]
    more: bool
    """Whether there are others behind these."""
    total: int | None
    """How many there are on all pages, where it was asked for."""


class Products:
    """The catalogue, on the session of one transaction. Whatever it changes is in the history when it is stored."""

    def __init__(self, products: ProductRepository, changes: ChangeRepository, write_access: WriteAccess) -> None:
        self._products = products
        self._changes = changes
        self._write_access = write_access

    def get(self, product_id: int) -> Product:
        """Raises ProductNotFound."""
        product = self._products.find(product_id)
        if product is None:
            raise ProductNotFound
        return product

    def page(self, query: ProductQuery) -> ProductPage:
        """One page of the products that are asked for."""
        criteria, after = query.criteria, query.cursor.after if query.cursor else None
        products = self._products.selected(criteria, query.limit + 1, skip=query.skip or 0, after=after)
        total = self._products.count(criteria) if query.count == "true" else None
        return ProductPage(products[: query.limit], len(products) > query.limit, total)

    def create(self, draft: ProductCreate, owner: Caller) -> Product:
        """Raises SkuTaken, or Invalid for a price with more decimals than its currency has."""
        _check_decimals(draft.price, draft.currency)
        now = datetime.now(UTC)
        product = self._products.add(
            Product(**draft.model_dump(), owner_id=owner.user_id, created_at=now, updated_at=now)
        )
        self._record("created", product, owner, now, None, product.facts)
        return product

    def change(self, product_id: int, patch: ProductPatch, caller: Caller, versions: Versions = None) -> Product:
        """Set what the patch holds.

        Raises ProductNotFound, NotTheOwner, PreconditionFailed, SkuTaken, or Invalid as `create` does.
        """
        product = self._get_for(caller, product_id, versions)
        before = product.facts
        for name, value in patch.model_dump(exclude_unset=True).items():
            if value != getattr(product, name):
                setattr(product, name, value)
        after = product.facts
        if before != after:
            _check_decimals(product.price, product.currency)
            product.updated_at = datetime.now(UTC)
            self._products.flush()
            changed = [name for name in after if before[name] != after[name]]
            self._record(
                "changed",
                product,
                caller,
                product.updated_at,
                {name: before[name] for name in changed},
                {name: after[name] for name in changed},
            )
        return product

    def delete(self, product_id: int, caller: Caller, versions: Versions = None) -> None:
        """Raises ProductNotFound, NotTheOwner or PreconditionFailed."""
        product = self._get_for(caller, product_id, versions)
        self._products.remove(product)
        self._record("deleted", product, caller, datetime.now(UTC), product.facts, None)

    def adjust_stock(
        self, product_id: int, delta: int, reason: str, caller: Caller, versions: Versions = None
    ) -> Product:
        """Add `delta` to the quantity.

        Raises ProductNotFound, NotTheOwner, PreconditionFailed, InsufficientStock or TooMuchStock.
        """
        # Not locked: who owns it does not change, and the statement below looks at all else at once.
        self._require_right(caller, self.get(product_id))
        now = datetime.now(UTC)
        product = self._products.adjust_quantity(product_id, delta, now, versions)
        if product is None:
            # It was gone, of another version, or did not have enough; nobody changes it while that is found out.
            self._get_for(caller, product_id, versions)
            raise InsufficientStock if delta < 0 else TooMuchStock
        before = product.quantity - delta
        self._record("stock", product, caller, now, {"quantity": before}, {"quantity": product.quantity}, reason)
        return product

    def history(self, product_id: int, caller: Caller, before: int | None, limit: int) -> tuple[Sequence[Change], bool]:
        """Changes of a product, the newest first, and whether there are older ones.

        Raises ProductNotFound or NotTheOwner. It goes on after the product was deleted, for its last owner and admins.

        :param before: the id of the change that the page begins after; None for the newest
        """
        known = self._products.find(product_id) or next(iter(self._changes.of_product(product_id, None, 1)), None)
        if known is None:
            raise ProductNotFound
        if known.owner_id != caller.user_id and not caller.is_admin:
            raise NotTheOwner
        changes = self._changes.of_product(product_id, before, limit + 1)
        return changes[:limit], len(changes) > limit

    def _get_for(self, caller: Caller, product_id: int, versions: Versions) -> Product:
        """The product, which stays as it is until this transaction ends."""
        product = self._products.find(product_id, for_update=True)
        if product is None:
            raise ProductNotFound
        self._require_right(caller, product)
        if versions is not None and product.version not in versions:
            raise PreconditionFailed(product.version)
        return product

    def _require_right(self, caller: Caller, product: Product) -> None:
        if self._write_access == "owner" and product.owner_id != caller.user_id and not caller.is_admin:
            raise NotTheOwner

    def _record(
        self,
        action: Action,
        product: Product,
        caller: Caller,
        now: datetime,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
        reason: str | None = None,
    ) -> None:
        self._changes.add(
            Change(
                product_id=product.id,
                owner_id=product.owner_id,
                version=product.version,
                action=action,
                changed_by=caller.user_id,
                changed_at=now,
                reason=reason,
                before=before,
                after=after,
            )
        )


def _check_decimals(price: Decimal, currency: str) -> None:
    places = money.decimals(currency) or 0
    if price != round(price, places):
        raise Invalid([FieldError("/price", f"{currency} has {places} decimals")])
