"""Creating and changing many products at once, for imports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from chassis.errors import DomainError, FieldError, Invalid
from chassis.use_cases import Service, Transactions, reads, writes
from product_service.domain.fields import EDITABLE_FIELDS, snapshot
from product_service.domain.ownership import may_change
from product_service.domain.rules import Rules
from product_service.errors import NotTheOwner, ProductNotFound, ProductQuotaExceeded, SkuTaken
from product_service.schemas import ProductLine
from product_service.services.products import (
    changed_fields,
    check_fields,
    differences,
    require_current,
    room_for_products,
)

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
        fields = patch.complete()
        check_fields(fields, self.rules)
        if patch.sku:
            require_current(fields["currency"])
        return fields

    def add(self, product: Product) -> None:
        """Find this product by its id and its SKU from now on."""
        self._by_id[product.id] = product
        if product.sku is not None:
            self._by_sku[product.sku] = product

    def forget_sku(self, sku: str | None) -> None:
        self._by_sku.pop(sku or "", None)


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
        self._new: list[dict[str, Any]] = []
        """The fields of products to create."""
        self._created_skus: set[str] = set()
        """The SKUs of products that the checks don't know yet."""
        self._changed: dict[int, tuple[Product, dict[str, Any]]] = {}
        """Products whose changes are to be stored, by id, with their former snapshots."""
        self._changed_fields: set[str] = set()

    def apply(self, patch: ProductLine) -> Outcome:
        if patch.sku in self._created_skus:
            self.store()
            for created in self._repos.products.lock_by_id_or_sku((), {patch.sku}):
                self._checks.add(created)
            self._created_skus.remove(patch.sku)
        try:
            product = self._checks.product(patch)
            fields = self._checks.new_fields(patch) if product is None else self._checks.changed_fields(patch, product)
            if product is None:
                return self._create(fields)
        except REFUSALS as error:
            return error
        if not fields:
            return "unchanged"
        self._change(product, fields)
        return "updated"

    def store(self) -> None:
        """Store new and changed products, and their history. Raises SkuTaken."""
        user_id = self._caller.user_id
        if self._changed:
            now = datetime.now(UTC)
            products = [product for product, _ in self._changed.values()]
            self._repos.products.store_changes(products, self._changed_fields, now)
            changes = [(product, *differences(before, snapshot(product))) for product, before in self._changed.values()]
            self._repos.changes.record_changed(changes, user_id, now)
        if self._new:
            ids = self._repos.products.create_many(self._new, user_id, self._now)
            self._repos.changes.record_created(ids, self._new, user_id, self._now)
        self._new, self._changed, self._changed_fields = [], {}, set()

    def _change(self, product: Product, fields: dict[str, Any]) -> None:
        # Changes of one product are stored one by one. So are those of SKUs, which others may be waiting for.
        if product.id in self._changed or "sku" in fields:
            self.store()
        self._changed[product.id] = product, snapshot(product)
        self._changed_fields |= fields.keys()
        former_sku = product.sku
        for name, value in fields.items():
            setattr(product, name, value)
        if "sku" in fields:
            self.store()
            self._checks.forget_sku(former_sku)
            self._checks.add(product)

    def _create(self, fields: dict[str, Any]) -> Outcome:
        sku = fields["sku"]
        if sku is None:
            values = tuple(fields[name] for name in EDITABLE_FIELDS)
            self.seen[hash(values)] += 1
            if self._seen_before.get(hash(values), 0) + self.seen[hash(values)] <= self._copies.get(values, 0):
                return "unchanged"
            if self._checks.update_only:
                raise Invalid([FieldError(None, NO_SUCH_PRODUCT)])
            require_current(fields["currency"])
        if self._room is None:
            self._room = room_for_products(self._repos, self._caller, self._checks.rules) - self._created_before
        if self._room < 1:
            raise ProductQuotaExceeded(self._checks.rules.max_products)
        self._room -= 1
        self._new.append(fields)
        if sku is not None:
            self._created_skus.add(sku)
        return "created"
