"""Creating and changing many products at once, for imports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from chassis.errors import DomainError, FieldError, Invalid
from chassis.use_cases import Service, Transactions, writes
from chassis.validation import invalid
from product_service.domain.fields import EDITABLE_FIELDS
from product_service.domain.ownership import may_change
from product_service.domain.rules import Rules
from product_service.errors import NotTheOwner, ProductNotFound, ProductQuotaExceeded, SkuTaken
from product_service.schemas import ProductCreate, ProductLine
from product_service.services.products import apply_patch, require_current, room_for_products, validated

if TYPE_CHECKING:
    from auth_client.caller import Caller
    from product_service.models import Product
    from product_service.repositories import Repositories

Outcome = Literal["created", "updated", "unchanged"] | DomainError
"""The result of one patch of many."""

NO_SUCH_SKU = "No product has this SKU, and mode=update creates none"
NO_SUCH_PRODUCT = "The line has no id and no SKU, and mode=update creates no products"


@dataclass(frozen=True)
class Upserted:
    """The result of creating and changing many products at once."""

    outcomes: list[Outcome]
    """In the order of the patches."""
    seen: Counter[int]
    """The number of patches per product without an id and a SKU, by a hash of its fields."""


class DryRun(Exception):
    """Rolls back the transaction of a dry run and carries its result."""

    def __init__(self, result: Upserted) -> None:
        self.result = result


class Upserts(Service["Repositories"]):
    """Every change is recorded in the history, in the same transaction."""

    def __init__(self, transactions: Transactions[Repositories], rules: Rules) -> None:
        super().__init__(transactions)
        self._rules = rules

    @writes
    def upsert_many(
        self,
        repos: Repositories,
        patches: Sequence[ProductLine],
        caller: Caller,
        seen_before: Mapping[int, int],
        *,
        created_before: int = 0,
        update_only: bool = False,
        dry_run: bool = False,
    ) -> Upserted:
        """Change the product with the id of the patch, or else with its SKU; create a product with a new SKU.

        Patches with neither are matched on the owner and all fields; only missing copies are created, so importing the
        same file again adds nothing. Raises SkuTaken if a concurrent transaction created one of the products, and
        DryRun, which rolls back, if `dry_run` is set.

        :param seen_before: the number of earlier patches in the same import per product without an id and a SKU
        :param created_before: the number of products that a dry run has rolled back
        :param update_only: refuse patches that would create a product
        """
        batch = _Batch(
            repos, patches, caller, seen_before, self._rules, created_before=created_before, update_only=update_only
        )
        upserted = Upserted([batch.apply(patch) for patch in patches], batch.seen)
        batch.store()
        if dry_run:
            raise DryRun(upserted)
        return upserted


class _Batch:
    """The state of `upsert_many` between two patches."""

    def __init__(
        self,
        repos: Repositories,
        patches: Sequence[ProductLine],
        caller: Caller,
        seen_before: Mapping[int, int],
        rules: Rules,
        *,
        created_before: int,
        update_only: bool,
    ) -> None:
        self._repos = repos
        self._caller = caller
        self._seen_before = seen_before
        self._rules = rules
        self._created_before = created_before
        self._update_only = update_only
        self._room: int | None = None
        """The number of products that the caller may still create, once it is known."""
        self._now = datetime.now(UTC)
        existing = repos.products.lock_by_id_or_sku(
            {patch.id for patch in patches if patch.id}, {patch.sku for patch in patches if patch.sku}
        )
        self._by_id = {product.id: product for product in existing}
        self._by_sku = {product.sku: product for product in existing if product.sku is not None}
        names = [patch.name for patch in patches if not patch.id and not patch.sku and "name" in patch.model_fields_set]
        self._copies = repos.products.count_without_sku(caller.user_id, names) if names else {}
        self.seen: Counter[int] = Counter()
        self._new: list[Product] = []

    def apply(self, patch: ProductLine) -> Outcome:
        try:
            product = self._by_id.get(patch.id) if patch.id else self._by_sku.get(patch.sku or "")
            if product is not None:
                return "updated" if self._change(product, patch) else "unchanged"
            if patch.id:
                raise ProductNotFound
            if self._update_only and patch.sku:
                raise Invalid([FieldError("/sku", NO_SUCH_SKU)])
            return self._create(patch)
        except (NotTheOwner, ProductNotFound, ProductQuotaExceeded, SkuTaken, Invalid) as error:
            return error

    def store(self) -> None:
        """Insert the new products."""
        self._repos.products.add_all(self._new)
        self._repos.changes.record_created(self._new, self._caller.user_id)
        self._new = []

    def _change(self, product: Product, patch: ProductLine) -> bool:
        if product.id is None:  # Created by an earlier patch.
            self.store()
        if not may_change(self._caller, product.owner_id, self._rules.write_access):
            raise NotTheOwner
        sku = product.sku
        if patch.sku and self._by_sku.get(patch.sku, product) is not product:
            raise SkuTaken
        changed = apply_patch(self._repos, patch, product, self._caller, self._rules)
        if sku is not None:
            self._by_sku.pop(sku, None)
        if product.sku is not None:
            self._by_sku[product.sku] = product
        return changed

    def _create(self, patch: ProductLine) -> Outcome:
        product = self._repos.products.make(validated(_draft(patch), self._rules), self._caller.user_id, self._now)
        if product.sku is None:
            values = tuple(getattr(product, name) for name in EDITABLE_FIELDS)
            self.seen[hash(values)] += 1
            if self._seen_before.get(hash(values), 0) + self.seen[hash(values)] <= self._copies.get(values, 0):
                return "unchanged"
            if self._update_only:
                raise Invalid([FieldError(None, NO_SUCH_PRODUCT)])
        require_current(product.currency)
        if self._room is None:
            self._room = room_for_products(self._repos, self._caller, self._rules) - self._created_before
        if self._room < 1:
            raise ProductQuotaExceeded(self._rules.max_products)
        self._room -= 1
        if product.sku is not None:
            self._by_sku[product.sku] = product
        self._new.append(product)
        return "created"


def _draft(patch: ProductLine) -> ProductCreate:
    try:
        return ProductCreate.model_validate(patch.model_dump(exclude_unset=True))
    except ValidationError as error:
        raise invalid(error) from None
