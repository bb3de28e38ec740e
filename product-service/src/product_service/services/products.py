"""Products: what may happen to them, and who may do it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from chassis.errors import FieldError, Invalid
from product_service import money
from product_service.errors import NotTheOwner, ProductNotFound
from product_service.identity import Caller
from product_service.listing import ProductQuery
from product_service.models import Product
from product_service.repositories.products import ProductRepository
from product_service.schemas import ProductCreate, ProductPatch
from product_service.settings import WriteAccess


@dataclass(frozen=True)
class ProductPage:
    products: Sequence[Product]
    more: bool
    """Whether there are others behind these."""
    total: int | None
    """How many there are on all pages, where it was asked for."""


class Products:
    """The catalogue, on the session of one transaction."""

    def __init__(self, repository: ProductRepository, write_access: WriteAccess) -> None:
        self._repository = repository
        self._write_access = write_access

    def get(self, product_id: int) -> Product:
        """Raises ProductNotFound."""
        product = self._repository.find(product_id)
        if product is None:
            raise ProductNotFound
        return product

    def page(self, query: ProductQuery) -> ProductPage:
        """One page of the products that are asked for."""
        criteria, after = query.criteria, query.cursor.after if query.cursor else None
        products = self._repository.selected(criteria, query.limit + 1, skip=query.skip or 0, after=after)
        total = self._repository.count(criteria) if query.count == "true" else None
        return ProductPage(products[: query.limit], len(products) > query.limit, total)

    def create(self, draft: ProductCreate, owner: Caller) -> Product:
        """Raises SkuTaken, or Invalid for a price with more decimals than its currency has."""
        _check_decimals(draft.price, draft.currency)
        now = datetime.now(UTC)
        return self._repository.add(
            Product(**draft.model_dump(), owner_id=owner.user_id, created_at=now, updated_at=now)
        )

    def change(self, product_id: int, patch: ProductPatch, caller: Caller) -> Product:
        """Set what the patch holds; raises ProductNotFound, NotTheOwner, SkuTaken, or Invalid as `create` does."""
        product = self._get_for(caller, product_id)
        changes = patch.model_dump(exclude_unset=True)
        changed = {name: value for name, value in changes.items() if value != getattr(product, name)}
        if changed:
            _check_decimals(changed.get("price", product.price), changed.get("currency", product.currency))
            for name, value in changed.items():
                setattr(product, name, value)
            product.updated_at = datetime.now(UTC)
            self._repository.flush()
        return product

    def delete(self, product_id: int, caller: Caller) -> None:
        """Raises ProductNotFound or NotTheOwner."""
        self._repository.remove(self._get_for(caller, product_id))

    def _get_for(self, caller: Caller, product_id: int) -> Product:
        product = self._repository.find(product_id, for_update=True)
        if product is None:
            raise ProductNotFound
        if self._write_access == "owner" and product.owner_id != caller.user_id and "admin" not in caller.roles:
            raise NotTheOwner
        return product


def _check_decimals(price: Decimal, currency: str) -> None:
    places = money.decimals(currency) or 0
    if price != round(price, places):
        raise Invalid([FieldError("/price", f"{currency} has {places} decimals")])
