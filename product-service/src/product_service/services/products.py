"""The use cases of products."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from chassis.errors import FieldError, Invalid
from chassis.preconditions import ANY_VERSION, Precondition
from chassis.use_cases import Service, Transactions, reads, writes
from product_service.domain import money
from product_service.domain.criteria import MAX_COUNT
from product_service.domain.fields import EDITABLE_FIELDS, snapshot
from product_service.domain.idempotency import IdempotentRequest
from product_service.domain.ownership import is_owner_or_admin, may_change
from product_service.domain.rules import Rules
from product_service.errors import InsufficientStock, NotTheOwner, ProductNotFound, ProductQuotaExceeded, TooMuchStock
from product_service.schemas import ProductCreate, ProductLine, ProductPatch, StockAdjustment
from product_service.services.idempotency import Replay, claim

if TYPE_CHECKING:
    from auth_client.caller import Caller
    from product_service.domain.criteria import Criteria
    from product_service.models import Product, ProductChange
    from product_service.repositories import Repositories


READ_ONLY = "Read-only; omit it, or send the current value"
STALE = "The product has changed since it was read; read it again, or omit this field"


@dataclass(frozen=True)
class ProductPage:
    products: Sequence[Product]
    more: bool
    """Whether there are further pages."""
    total: int | None
    """The number of products on all pages, if requested; above MAX_COUNT it only says that there are more."""


class Products(Service["Repositories"]):
    """The catalogue. Every change is recorded in the history, in the same transaction."""

    def __init__(self, transactions: Transactions[Repositories], rules: Rules) -> None:
        super().__init__(transactions)
        self._rules = rules
        self._export_lock = asyncio.Lock()

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
        """A page of the matching products.

        :param after: the position of the last product on the previous page, see `Criteria.position`
        :param count: whether to count the products on all pages
        """
        return _page(repos, criteria, limit, skip=skip, after=after, count=count)

    async def export_page(
        self,
        criteria: Criteria,
        limit: int,
        after: tuple[Any, ...] | None,
        serialize: Callable[[Sequence[Product]], str],
    ) -> tuple[ProductPage, str]:
        """A page and its products as text. `serialize` runs in the same worker thread.

        One page is read at a time, so that other reads of this process wait for one at most.
        """
        async with self._export_lock:
            return await self._export_page(criteria, limit, after, serialize)

    @reads
    def _export_page(
        self,
        repos: Repositories,
        criteria: Criteria,
        limit: int,
        after: tuple[Any, ...] | None,
        serialize: Callable[[Sequence[Product]], str],
    ) -> tuple[ProductPage, str]:
        page = _page(repos, criteria, limit, after=after)
        return page, serialize(page.products)

    @writes
    def create(
        self, repos: Repositories, draft: ProductCreate, owner: Caller, key: str | None = None
    ) -> Product | Replay:
        """Create a product.

        Raises ProductQuotaExceeded, SkuTaken, Invalid if the price has more decimals than its currency or the currency
        is withdrawn, and the errors of `claim`.
        """
        claimed = claim(repos, _idempotent_request(key, owner, "create", draft))
        if isinstance(claimed, Replay):
            return claimed
        fields = draft.model_dump()
        check_fields(fields, self._rules)
        require_current(draft.currency)
        if room_for_products(repos, owner, self._rules) < 1:
            raise ProductQuotaExceeded(self._rules.max_products)
        product = repos.products.create(fields, owner.user_id, datetime.now(UTC))
        repos.changes.record("created", product, owner.user_id, product.created_at, None, snapshot(product))
        claimed.store(product)
        return product

    @writes
    def change(
        self,
        repos: Repositories,
        product_id: int,
        patch: ProductPatch,
        caller: Caller,
        precondition: Precondition = ANY_VERSION,
    ) -> Product:
        """Set the fields of the patch.

        Raises ProductNotFound, NotTheOwner, PreconditionFailed, SkuTaken, Invalid as `create` does, and Invalid if a
        read-only field has another value than the product.
        """
        product = self._lock(repos, product_id, caller, precondition)
        if fields := changed_fields(patch, product, self._rules):
            set_fields(repos, product, fields, caller)
        return product

    @writes
    def delete(
        self, repos: Repositories, product_id: int, caller: Caller, precondition: Precondition = ANY_VERSION
    ) -> None:
        """Raises ProductNotFound, NotTheOwner or PreconditionFailed."""
        product = self._lock(repos, product_id, caller, precondition)
        repos.products.delete(product)
        repos.changes.record("deleted", product, caller.user_id, datetime.now(UTC), snapshot(product), None)

    @writes
    def adjust_stock(
        self,
        repos: Repositories,
        product_id: int,
        adjustment: StockAdjustment,
        caller: Caller,
        precondition: Precondition = ANY_VERSION,
        key: str | None = None,
    ) -> Product | Replay:
        """Add to or remove from the quantity.

        Raises ProductNotFound, NotTheOwner, PreconditionFailed, InsufficientStock, TooMuchStock, and the errors of
        `claim`.
        """
        delta = adjustment.delta
        claimed = claim(repos, _idempotent_request(key, caller, f"adjust-stock {product_id}", adjustment, precondition))
        if isinstance(claimed, Replay):
            return claimed
        # No lock needed: the owner never changes, and the statement below checks everything else atomically.
        self._require_write_access(caller, _get(repos, product_id))
        now = datetime.now(UTC)
        product = repos.products.adjust_quantity(product_id, delta, now, precondition)
        if product is None:
            # The product is gone, has another version, or its quantity is out of range. Lock it to find out which.
            self._lock(repos, product_id, caller, precondition)
            raise InsufficientStock if delta < 0 else TooMuchStock
        before, after = {"quantity": product.quantity - delta}, {"quantity": product.quantity}
        repos.changes.record("stock", product, caller.user_id, now, before, after, adjustment.reason)
        claimed.store(product)
        return product

    @reads
    def history(
        self, repos: Repositories, product_id: int, caller: Caller, before: int | None, limit: int
    ) -> tuple[Sequence[ProductChange], bool]:
        """Changes of a product, newest first, and whether there are older ones.

        After the product is deleted, its last owner and admins can still read its history. Raises ProductNotFound or
        NotTheOwner.

        :param before: return only changes with a smaller id; None for the newest
        """
        owned = repos.products.find(product_id) or next(iter(repos.changes.of_product(product_id, None, 1)), None)
        if owned is None:
            raise ProductNotFound
        if not is_owner_or_admin(caller, owned.owner_id):
            raise NotTheOwner
        changes = repos.changes.of_product(product_id, before, limit + 1)
        return changes[:limit], len(changes) > limit

    def _lock(self, repos: Repositories, product_id: int, caller: Caller, precondition: Precondition) -> Product:
        """Lock a product that the caller may change, until the transaction ends."""
        product = repos.products.find(product_id, for_update=True)
        if product is None:
            raise ProductNotFound
        self._require_write_access(caller, product)
        precondition.check(product.version)
        return product

    def _require_write_access(self, caller: Caller, product: Product) -> None:
        if not may_change(caller, product.owner_id, self._rules.write_access):
            raise NotTheOwner


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
    total = repos.products.count(criteria, MAX_COUNT + 1) if count else None
    return ProductPage(products[:limit], len(products) > limit, total)


def _idempotent_request(
    key: str | None, caller: Caller, operation: str, body: BaseModel, precondition: Precondition = ANY_VERSION
) -> IdempotentRequest | None:
    if key is None:
        return None
    # Without nulls, so that a later version with one more optional field makes the same of the same request.
    match, none_match = precondition.match, precondition.none_match
    payload = f"{body.model_dump_json(exclude_none=True)} {sorted(match) if match is not None else None}"
    if none_match != ANY_VERSION.none_match:
        payload += f" {sorted(none_match) if none_match is not None else None}"
    return IdempotentRequest(caller.user_id, key, operation, payload)


def changed_fields(patch: ProductLine, product: Product, rules: Rules) -> dict[str, Any]:
    """The fields of the patch that differ from the product's. Raises Invalid if the product can't have these values."""
    fields = {name: value for name, value in patch.sent.items() if value != getattr(product, name)}
    if read_only := fields.keys() - set(EDITABLE_FIELDS):
        # A client that sends back what it has read has an old version if another client was faster.
        messages = {"version": STALE, "updated_at": STALE}
        raise Invalid([FieldError(f"/{name}", messages.get(name, READ_ONLY)) for name in fields if name in read_only])
    rules.check_description(fields.get("description"))
    if not fields.keys().isdisjoint(("price", "currency")):
        _check_decimals(fields.get("price", product.price), fields.get("currency", product.currency))
    if "currency" in fields:
        require_current(fields["currency"])
    return fields


def set_fields(repos: Repositories, product: Product, fields: dict[str, Any], caller: Caller) -> None:
    """Set fields to other values, and record that in the history."""
    before = snapshot(product)
    for name, value in fields.items():
        setattr(product, name, value)
    product.updated_at = datetime.now(UTC)
    repos.products.flush()
    after = snapshot(product)
    repos.changes.record("changed", product, caller.user_id, product.updated_at, *differences(before, after))


def differences(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What differs between two snapshots of a product."""
    changed = [name for name in after if before[name] != after[name]]
    return {name: before[name] for name in changed}, {name: after[name] for name in changed}


def room_for_products(repos: Repositories, owner: Caller, rules: Rules) -> int:
    """How many products the owner may still create.

    Blocks other transactions that create products for the same owner until this one ends: together they could exceed
    the quota.
    """
    if owner.is_admin:
        return sys.maxsize
    return rules.max_products - repos.products.count_of_owner(owner.user_id, rules.max_products)


def check_fields(fields: Mapping[str, Any], rules: Rules) -> None:
    """Check those of a new product. Raises Invalid for a description too long, or a price with too many decimals."""
    rules.check_description(fields["description"])
    _check_decimals(fields["price"], fields["currency"])


def require_current(currency: str) -> None:
    """Raise Invalid if the currency has been withdrawn, so that only existing products may have it."""
    if currency in money.WITHDRAWN:
        raise Invalid([FieldError("/currency", f"{currency} has been withdrawn; use a current currency")])


def _check_decimals(price: Decimal, currency: str) -> None:
    places = money.decimals(currency) or 0
    if price != round(price, places):
        raise Invalid([FieldError("/price", f"{currency} has {places} decimals")])
