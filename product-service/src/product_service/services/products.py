"""Products: what may happen to them, and who may do it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import ValidationError

from auth_client.client import Caller
from chassis.errors import FieldError, Invalid, PreconditionFailed
from chassis.http.problems import invalid
from product_service.domain import money
from product_service.errors import InsufficientStock, NotTheOwner, ProductNotFound, TooMuchStock
from product_service.listing import Criteria
from product_service.models import Change, Product
from product_service.models.changes import Action
from product_service.models.products import FACTS
from product_service.repositories.changes import ChangeRepository
from product_service.repositories.products import ProductRepository
from product_service.schemas import ProductCreate, ProductPatch
from product_service.settings import WriteAccess

Versions = AbstractSet[int] | None
"""The versions of a product that a call may change; None is any."""

Outcome = Literal["created", "updated", "unchanged"] | NotTheOwner | Invalid
"""What became of one of many."""


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

    def page(
        self,
        criteria: Criteria,
        limit: int,
        *,
        skip: int = 0,
        after: tuple[Any, ...] | None = None,
        count: bool = False,
    ) -> ProductPage:
        """One page of the products that are asked for.

        :param after: the place of the last product of the page before, as `Criteria.place` gives it
        :param count: whether to tell how many there are on all pages
        """
        products = self._products.selected(criteria, limit + 1, skip=skip, after=after)
        total = self._products.count(criteria) if count else None
        return ProductPage(products[:limit], len(products) > limit, total)

    def create(self, draft: ProductCreate, owner: Caller) -> Product:
        """Raises SkuTaken, or Invalid for a price with more decimals than its currency has."""
        product = _made(draft, owner)
        self._store([product], owner)
        return product

    def change(self, product_id: int, patch: ProductPatch, caller: Caller, versions: Versions = None) -> Product:
        """Set what the patch holds.

        Raises ProductNotFound, NotTheOwner, PreconditionFailed, SkuTaken, or Invalid as `create` does.
        """
        product = self._get_for(caller, product_id, versions)
        self._apply(patch, product, caller)
        return product

    def put_all(
        self, patches: Sequence[ProductPatch], caller: Caller, earlier: Mapping[int, int]
    ) -> tuple[list[Outcome], Counter[int]]:
        """Create what has a new sku, change what has a known one; what became of each patch, in their order.

        A patch without a sku says that there is such a product of the caller's, which differs in nothing. As often as
        the same is said, as many of them there will be: so those that were said earlier count, and whoever says
        everything again makes no more of them. Raises SkuTaken where another transaction was faster.

        :param earlier: how often the same was said before; the second result is how often it was said now
        """
        known = self._products.with_skus([patch.sku for patch in patches if patch.sku])
        names = [patch.name for patch in patches if not patch.sku and "name" in patch.model_fields_set]
        there = self._products.count_without_sku(caller.user_id, names) if names else {}
        said: Counter[int] = Counter()
        outcomes: list[Outcome] = []
        new: list[Product] = []
        for patch in patches:
            try:
                if patch.sku in known:
                    product = known[patch.sku]
                    if product.id is None:  # It is new, and said once more.
                        self._store(new, caller)
                        new = []
                    self._require_right(caller, product)
                    outcomes.append("updated" if self._apply(patch, product, caller) else "unchanged")
                    continue
                product = _made(_draft(patch), caller)
            except (NotTheOwner, Invalid) as refusal:
                outcomes.append(refusal)
                continue
            if product.sku is not None:
                known[product.sku] = product
            else:
                facts = tuple(getattr(product, name) for name in FACTS)
                said[hash(facts)] += 1
                if earlier.get(hash(facts), 0) + said[hash(facts)] <= there.get(facts, 0):
                    outcomes.append("unchanged")
                    continue
            new.append(product)
            outcomes.append("created")
        self._store(new, caller)
        return outcomes, said

    def delete(self, product_id: int, caller: Caller, versions: Versions = None) -> None:
        """Raises ProductNotFound, NotTheOwner or PreconditionFailed."""
        product = self._get_for(caller, product_id, versions)
        self._products.remove(product)
        self._changes.add(_entry("deleted", product, caller, datetime.now(UTC), product.facts, None))

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
        was, is_now = {"quantity": product.quantity - delta}, {"quantity": product.quantity}
        self._changes.add(_entry("stock", product, caller, now, was, is_now, reason))
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

    def _store(self, new: Sequence[Product], owner: Caller) -> None:
        self._products.add_all(new)
        self._changes.add_all(
            [_entry("created", product, owner, product.created_at, None, product.facts) for product in new]
        )

    def _apply(self, patch: ProductPatch, product: Product, caller: Caller) -> bool:
        """Set what the patch holds; whether that makes a difference."""
        fields = patch.model_dump(exclude_unset=True)
        fields = {name: value for name, value in fields.items() if value != getattr(product, name)}
        if not fields:
            return False
        # Before anything is set: nothing of what is refused may be stored.
        if not fields.keys().isdisjoint(("price", "currency")):
            _check_decimals(fields.get("price", product.price), fields.get("currency", product.currency))
        before = product.facts
        for name, value in fields.items():
            setattr(product, name, value)
        product.updated_at = datetime.now(UTC)
        self._products.flush()
        after = product.facts
        changed = [name for name in after if before[name] != after[name]]
        was, is_now = {name: before[name] for name in changed}, {name: after[name] for name in changed}
        self._changes.add(_entry("changed", product, caller, product.updated_at, was, is_now))
        return True

    def _require_right(self, caller: Caller, product: Product) -> None:
        if self._write_access == "owner" and product.owner_id != caller.user_id and not caller.is_admin:
            raise NotTheOwner


def _draft(patch: ProductPatch) -> ProductCreate:
    try:
        return ProductCreate.model_validate(patch.model_dump(exclude_unset=True))
    except ValidationError as error:
        raise invalid(error) from None


def _made(draft: ProductCreate, owner: Caller) -> Product:
    _check_decimals(draft.price, draft.currency)
    now = datetime.now(UTC)
    return Product(**draft.model_dump(), owner_id=owner.user_id, created_at=now, updated_at=now)


def _entry(
    action: Action,
    product: Product,
    caller: Caller,
    now: datetime,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    reason: str | None = None,
) -> Change:
    """What the history says of a change, once the product has it."""
    return Change(
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


def _check_decimals(price: Decimal, currency: str) -> None:
    places = money.decimals(currency) or 0
    if price != round(price, places):
        raise Invalid([FieldError("/price", f"{currency} has {places} decimals")])
