"""Products: what may happen to them, and who may do it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from chassis.errors import FieldError, Invalid, PreconditionFailed
from chassis.use_cases import Service, Transactions, reads, writes
from chassis.validation import invalid
from product_service.domain import money
from product_service.domain.fields import EDITABLE_FIELDS
from product_service.domain.idempotency import IdempotentRequest
from product_service.domain.ownership import WriteAccess, is_owner_or_admin, may_change
from product_service.errors import InsufficientStock, NotTheOwner, ProductNotFound, TooMuchStock
from product_service.schemas import ProductCreate, ProductPatch, StockAdjustment
from product_service.services.idempotency import Replay, claim

if TYPE_CHECKING:
    from auth_client.caller import Caller
    from product_service.domain.criteria import Criteria
    from product_service.models import Product, ProductChange
    from product_service.repositories import Repositories

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


@dataclass(frozen=True)
class Upserted:
    """What became of many products that were created or changed at once."""

    outcomes: list[Outcome]
    """In the order of the patches."""
    seen: Counter[int]
    """How often each product without a sku was among the patches, by a hash of its fields."""


class Products(Service["Repositories"]):
    """The catalogue. Whatever a use case changes is in the history in the same transaction."""

    def __init__(self, transactions: Transactions[Repositories], write_access: WriteAccess) -> None:
        super().__init__(transactions)
        self._write_access = write_access

    @reads
    def get(self, repos: Repositories, product_id: int) -> Product:
        """Raises ProductNotFound."""
        return _get(repos, product_id)

    @reads
    def page(
        self,
        repos: Repositories,
        criteria: Criteria,
        limit: int,
        *,
        skip: int = 0,
        after: tuple[Any, ...] | None = None,
        count: bool = False,
    ) -> ProductPage:
        """One page of the products that are asked for.

        :param after: the position of the last product of the page before, as `Criteria.position` gives it
        :param count: whether to tell how many there are on all pages
        """
        return _page(repos, criteria, limit, skip=skip, after=after, count=count)

    @reads
    def export_page(
        self,
        repos: Repositories,
        criteria: Criteria,
        limit: int,
        after: tuple[Any, ...] | None,
        write: Callable[[Sequence[Product]], str],
    ) -> tuple[ProductPage, str]:
        """A page, and the text that `write` makes of its products; that is done in the same thread."""
        page = _page(repos, criteria, limit, after=after)
        return page, write(page.products)

    @writes
    def create(
        self, repos: Repositories, draft: ProductCreate, owner: Caller, key: str | None = None
    ) -> Product | Replay:
        """Raises SkuTaken, Invalid for a price with more decimals than its currency has, or what `claim` raises."""
        claimed = claim(repos, _keyed(key, owner, "create", draft.model_dump_json()))
        if isinstance(claimed, Replay):
            return claimed
        fields = _checked(draft)
        product = repos.products.create(fields, owner.user_id, datetime.now(UTC))
        repos.changes.record_created([product], owner.user_id)
        claimed.store(product)
        return product

    @writes
    def change(
        self, repos: Repositories, product_id: int, patch: ProductPatch, caller: Caller, versions: Versions = None
    ) -> Product:
        """Set what the patch holds.

        Raises ProductNotFound, NotTheOwner, PreconditionFailed, SkuTaken, or Invalid as `create` does.
        """
        product = self._lock_for(caller, repos, product_id, versions)
        _apply(repos, patch, product, caller)
        return product

    @writes
    def upsert_many(
        self,
        repos: Repositories,
        patches: Sequence[ProductPatch],
        caller: Caller,
        seen_before: Mapping[int, int],
        *,
        dry_run: bool = False,
    ) -> Upserted:
        """Create products with a new sku, and change those with a known one.

        Patches without a sku are matched on the owner and all fields; only missing copies are created, so importing the
        same file again adds nothing. Raises SkuTaken if another transaction created one of them at the same time, and
        DryRun instead of storing anything.

        :param seen_before: how often each product without a sku was among earlier patches of the same import
        """
        existing = repos.products.lock_by_sku([patch.sku for patch in patches if patch.sku])
        names = [patch.name for patch in patches if not patch.sku and "name" in patch.model_fields_set]
        copies = repos.products.count_without_sku(caller.user_id, names) if names else {}
        seen: Counter[int] = Counter()
        outcomes: list[Outcome] = []
        new: list[Product] = []
        now = datetime.now(UTC)
        for patch in patches:
            try:
                if patch.sku in existing:
                    product = existing[patch.sku]
                    if product.id is None:  # It is new, and comes a second time.
                        _store(repos, new, caller)
                        new = []
                    self._require_write_access(caller, product)
                    outcomes.append("updated" if _apply(repos, patch, product, caller) else "unchanged")
                    continue
                fields = _checked(_draft(patch))
            except (NotTheOwner, Invalid) as refusal:
                outcomes.append(refusal)
                continue
            product = repos.products.make(fields, caller.user_id, now)
            if product.sku is not None:
                existing[product.sku] = product
            else:
                values = tuple(getattr(product, name) for name in EDITABLE_FIELDS)
                seen[hash(values)] += 1
                if seen_before.get(hash(values), 0) + seen[hash(values)] <= copies.get(values, 0):
                    outcomes.append("unchanged")
                    continue
            new.append(product)
            outcomes.append("created")
        _store(repos, new, caller)
        if dry_run:
            raise DryRun(Upserted(outcomes, seen))
        return Upserted(outcomes, seen)

    @writes
    def delete(self, repos: Repositories, product_id: int, caller: Caller, versions: Versions = None) -> None:
        """Raises ProductNotFound, NotTheOwner or PreconditionFailed."""
        product = self._lock_for(caller, repos, product_id, versions)
        repos.products.delete(product)
        repos.changes.record("deleted", product, caller.user_id, datetime.now(UTC), product.snapshot, None)

    @writes
    def adjust_stock(
        self,
        repos: Repositories,
        product_id: int,
        adjustment: StockAdjustment,
        caller: Caller,
        versions: Versions = None,
        key: str | None = None,
    ) -> Product | Replay:
        """Add to the quantity, or take from it.

        Raises ProductNotFound, NotTheOwner, PreconditionFailed, InsufficientStock, TooMuchStock, or as `claim`.
        """
        delta = adjustment.delta
        content = f"{adjustment.model_dump_json()} {sorted(versions) if versions is not None else None}"
        claimed = claim(repos, _keyed(key, caller, f"adjust-stock {product_id}", content))
        if isinstance(claimed, Replay):
            return claimed
        # Not locked: the owner of a product does not change, and the statement below looks at all else at once.
        self._require_write_access(caller, _get(repos, product_id))
        now = datetime.now(UTC)
        product = repos.products.adjust_quantity(product_id, delta, now, versions)
        if product is None:
            # It was gone, of another version, or did not have enough; nobody changes it while that is found out.
            self._lock_for(caller, repos, product_id, versions)
            raise InsufficientStock if delta < 0 else TooMuchStock
        before, after = {"quantity": product.quantity - delta}, {"quantity": product.quantity}
        repos.changes.record("stock", product, caller.user_id, now, before, after, adjustment.reason)
        claimed.store(product)
        return product

    @reads
    def history(
        self, repos: Repositories, product_id: int, caller: Caller, before: int | None, limit: int
    ) -> tuple[Sequence[ProductChange], bool]:
        """Changes of a product, the newest first, and whether there are older ones.

        Raises ProductNotFound or NotTheOwner. The history outlives the product, for its last owner and admins.

        :param before: the id of the change that the page begins after; None for the newest
        """
        known = repos.products.find(product_id) or next(iter(repos.changes.of_product(product_id, None, 1)), None)
        if known is None:
            raise ProductNotFound
        if not is_owner_or_admin(caller, known.owner_id):
            raise NotTheOwner
        changes = repos.changes.of_product(product_id, before, limit + 1)
        return changes[:limit], len(changes) > limit

    def _lock_for(self, caller: Caller, repos: Repositories, product_id: int, versions: Versions) -> Product:
        """The product, locked until the transaction ends."""
        product = repos.products.find(product_id, for_update=True)
        if product is None:
            raise ProductNotFound
        self._require_write_access(caller, product)
        if versions is not None and product.version not in versions:
            raise PreconditionFailed(product.version)
        return product

    def _require_write_access(self, caller: Caller, product: Product) -> None:
        if not may_change(caller, product.owner_id, self._write_access):
            raise NotTheOwner


class DryRun(Exception):
    """Rolls a transaction back whose result is wanted."""

    def __init__(self, result: Upserted) -> None:
        self.result = result


def _get(repos: Repositories, product_id: int) -> Product:
    product = repos.products.find(product_id)
    if product is None:
        raise ProductNotFound
    return product


def _page(
    repos: Repositories,
    criteria: Criteria,
    limit: int,
    *,
    skip: int = 0,
    after: tuple[Any, ...] | None = None,
    count: bool = False,
) -> ProductPage:
    products = repos.products.selected(criteria, limit + 1, skip=skip, after=after)
    total = repos.products.count(criteria) if count else None
    return ProductPage(products[:limit], len(products) > limit, total)


def _keyed(key: str | None, caller: Caller, operation: str, content: str) -> IdempotentRequest | None:
    return None if key is None else IdempotentRequest(caller.user_id, key, operation, content)


def _store(repos: Repositories, new: Sequence[Product], owner: Caller) -> None:
    repos.products.add_all(new)
    repos.changes.record_created(new, owner.user_id)


def _apply(repos: Repositories, patch: ProductPatch, product: Product, caller: Caller) -> bool:
    """Set what the patch holds; whether that makes a difference."""
    fields = patch.model_dump(exclude_unset=True)
    fields = {name: value for name, value in fields.items() if value != getattr(product, name)}
    if not fields:
        return False
    # Before anything is set: nothing of what is refused may be stored.
    if not fields.keys().isdisjoint(("price", "currency")):
        _check_decimals(fields.get("price", product.price), fields.get("currency", product.currency))
    before = product.snapshot
    for name, value in fields.items():
        setattr(product, name, value)
    product.updated_at = datetime.now(UTC)
    repos.products.flush()
    after = product.snapshot
    changed = [name for name in after if before[name] != after[name]]
    was, is_now = {name: before[name] for name in changed}, {name: after[name] for name in changed}
    repos.changes.record("changed", product, caller.user_id, product.updated_at, was, is_now)
    return True


def _draft(patch: ProductPatch) -> ProductCreate:
    try:
        return ProductCreate.model_validate(patch.model_dump(exclude_unset=True))
    except ValidationError as error:
        raise invalid(error) from None


def _checked(draft: ProductCreate) -> dict[str, Any]:
    """The fields of a new product; raises Invalid for a price with more decimals than its currency has."""
    _check_decimals(draft.price, draft.currency)
    return draft.model_dump()


def _check_decimals(price: Decimal, currency: str) -> None:
    places = money.decimals(currency) or 0
    if price != round(price, places):
        raise Invalid([FieldError("/price", f"{currency} has {places} decimals")])
