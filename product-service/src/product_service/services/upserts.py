"""Creating and changing many products at once, for imports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from chassis.errors import DomainError, FieldError, Invalid
from chassis.use_cases import Service, Transactions, reads, writes
from chassis.validation import invalid
from product_service.domain.fields import EDITABLE_FIELDS
from product_service.domain.ownership import may_change
from product_service.domain.rules import Rules
from product_service.errors import NotTheOwner, ProductNotFound, ProductQuotaExceeded, SkuTaken
from product_service.schemas import ProductCreate, ProductLine
from product_service.services.products import changed_fields, require_current, room_for_products, set_fields, validated

if TYPE_CHECKING:
    from auth_client.caller import Caller
    from product_service.models import Product
    from product_service.repositories import Repositories

Outcome = Literal["created", "updated", "unchanged"] | DomainError
"""The result of one patch of many."""

REFUSALS = (NotTheOwner, ProductNotFound, ProductQuotaExceeded, SkuTaken, Invalid)
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

    @reads
    def screen(
        self, repos: Repositories, patches: Sequence[ProductLine], caller: Caller, *, update_only: bool = False
    ) -> list[Outcome | None]:
        """The outcomes of patches that are refused or change nothing, and None for the others.

        A transaction for these would only make other writers wait. So a patch that depends on an earlier one gets None.
        """
        existing = repos.products.find_by_id_or_sku(*_keys(patches))
        checks = _Checks(existing, caller, self._rules, update_only=update_only)
        changed: set[int | str] = set()
        """The ids and SKUs that earlier patches may give or take away."""
        outcomes: list[Outcome | None] = []
        for patch in patches:
            keys = checks.keys(patch)
            outcome = checks.outcome(patch) if changed.isdisjoint(keys) else None
            if outcome is None:
                changed |= keys
            outcomes.append(outcome)
        return outcomes

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
        checks = _Checks(
            repos.products.lock_by_id_or_sku(*_keys(patches)), caller, self._rules, update_only=update_only
        )
        batch = _Batch(repos, patches, checks, seen_before, created_before)
        upserted = Upserted([batch.apply(patch) for patch in patches], batch.seen)
        batch.store()
        if dry_run:
            raise DryRun(upserted)
        return upserted


def _keys(patches: Sequence[ProductLine]) -> tuple[set[int], set[str]]:
    return {patch.id for patch in patches if patch.id}, {patch.sku for patch in patches if patch.sku}


class _Checks:
    """Finds the products of patches, and checks what the patches would do to them."""

    def __init__(self, existing: Sequence[Product], caller: Caller, rules: Rules, *, update_only: bool) -> None:
        self.caller = caller
        self.update_only = update_only
        self.rules = rules
        self._by_id = {product.id: product for product in existing}
        self._by_sku = {product.sku: product for product in existing if product.sku is not None}

    def product(self, patch: ProductLine) -> Product | None:
        return self._by_id.get(patch.id) if patch.id else self._by_sku.get(patch.sku or "")

    def keys(self, patch: ProductLine) -> set[int | str]:
        """The SKU of the patch, and the ids of the products that it is about."""
        involved = (self.product(patch), self._by_sku.get(patch.sku or ""))
        return {key for key in (patch.sku, *(product.id for product in involved if product)) if key}

    def outcome(self, patch: ProductLine) -> Outcome | None:
        """The outcome of a patch that is refused or changes nothing, otherwise None."""
        product = self.product(patch)
        try:
            if product is None:
                self.new_fields(patch)
                return None
            return None if self.changed_fields(patch, product) else "unchanged"
        except REFUSALS as error:
            return error

    def changed_fields(self, patch: ProductLine, product: Product) -> dict[str, Any]:
        """The fields that the patch changes. Raises a refusal."""
        if not may_change(self.caller, product.owner_id, self.rules.write_access):
            raise NotTheOwner
        if patch.sku and self._by_sku.get(patch.sku, product) is not product:
            raise SkuTaken
        return changed_fields(patch, product, self.rules)

    def new_fields(self, patch: ProductLine) -> dict[str, Any]:
        """The fields of the new product that the patch would create. Raises a refusal."""
        if patch.id:
            raise ProductNotFound
        if self.update_only and patch.sku:
            raise Invalid([FieldError("/sku", NO_SUCH_SKU)])
        fields = validated(_draft(patch), self.rules)
        if patch.sku:
            require_current(fields["currency"])
        return fields

    def set_sku(self, product: Product, former: str | None = None) -> None:
        """Find the product by its SKU from now on, and no longer by its former one."""
        if former is not None:
            self._by_sku.pop(former, None)
        if product.sku is not None:
            self._by_sku[product.sku] = product


class _Batch:
    """The state of `upsert_many` between two patches."""

    def __init__(
        self,
        repos: Repositories,
        patches: Sequence[ProductLine],
        checks: _Checks,
        seen_before: Mapping[int, int],
        created_before: int,
    ) -> None:
        self._repos = repos
        self._checks = checks
        self._caller = checks.caller
        self._seen_before = seen_before
        self._created_before = created_before
        self._room: int | None = None
        """The number of products that the caller may still create, once it is known."""
        self._now = datetime.now(UTC)
        names = [patch.name for patch in patches if not patch.id and not patch.sku and "name" in patch.model_fields_set]
        self._copies = repos.products.count_without_sku(self._caller.user_id, names) if names else {}
        self.seen: Counter[int] = Counter()
        self._new: list[Product] = []

    def apply(self, patch: ProductLine) -> Outcome:
        try:
            product = self._checks.product(patch)
            if product is not None:
                return "updated" if self._change(product, patch) else "unchanged"
            return self._create(patch)
        except REFUSALS as error:
            return error

    def store(self) -> None:
        """Insert the new products."""
        self._repos.products.add_all(self._new)
        self._repos.changes.record_created(self._new, self._caller.user_id)
        self._new = []

    def _change(self, product: Product, patch: ProductLine) -> bool:
        fields = self._checks.changed_fields(patch, product)
        if not fields:
            return False
        if product.id is None:  # Created by an earlier patch.
            self.store()
        sku = product.sku
        set_fields(self._repos, product, fields, self._caller)
        self._checks.set_sku(product, sku)
        return True

    def _create(self, patch: ProductLine) -> Outcome:
        product = self._repos.products.make(self._checks.new_fields(patch), self._caller.user_id, self._now)
        if product.sku is None:
            values = tuple(getattr(product, name) for name in EDITABLE_FIELDS)
            self.seen[hash(values)] += 1
            if self._seen_before.get(hash(values), 0) + self.seen[hash(values)] <= self._copies.get(values, 0):
                return "unchanged"
            if self._checks.update_only:
                raise Invalid([FieldError(None, NO_SUCH_PRODUCT)])
            require_current(product.currency)
        if self._room is None:
            self._room = room_for_products(self._repos, self._caller, self._checks.rules) - self._created_before
        if self._room < 1:
            raise ProductQuotaExceeded(self._checks.rules.max_products)
        self._room -= 1
        self._checks.set_sku(product)
        self._new.append(product)
        return "created"


def _draft(patch: ProductLine) -> ProductCreate:
    try:
        return ProductCreate.model_validate(patch.model_dump(exclude_unset=True))
    except ValidationError as error:
        raise invalid(error) from None
