"""Database access for products."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Integer, Select, TextClause, bindparam, false, func, or_, select, text, update
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.exc import StaleDataError

from chassis.database.repository import BaseRepository, Condition
from chassis.errors import DomainError
from chassis.preconditions import Precondition
from product_service.domain.criteria import Criteria
from product_service.domain.fields import EDITABLE_FIELDS, MAX_QUANTITY, fields_of
from product_service.domain.history import FIRST_VERSION
from product_service.domain.search_text import fold, name_key, search_words
from product_service.errors import SkuTaken
from product_service.models import Product
from product_service.models.products import SEARCHED, search_columns

# The condition, a word, the beginning of a word, and what is between two. Words contain only letters and digits, so a
# quoted word has no special meaning in either query language.
_SEARCH = {
    "sqlite": (
        "products.id IN (SELECT rowid FROM products_search WHERE products_search MATCH :q)",
        *('"{}"', '"{}" *', " AND "),
    ),
    "postgresql": ("products.search @@ CAST(:q AS tsquery)", "'{}'", "'{}':*", " & "),
}

# These two run with each creation, so they are built once.
_LOCK_OF_OWNER = select(func.pg_advisory_xact_lock(bindparam("owner_id", type_=BigInteger)))
_COUNT_OF_OWNER = select(func.count()).select_from(
    select(Product.id)
    .where(Product.owner_id == bindparam("owner_id"))
    .limit(bindparam("maximum", type_=Integer))
    .subquery()
)


class ProductRepository(BaseRepository[Product]):
    model = Product
    conflicts: ClassVar[dict[str, type[DomainError]]] = {"products.sku": SkuTaken}

    def create(self, fields: Mapping[str, Any], owner_id: int, now: datetime) -> Product:
        """Insert a product; raises SkuTaken.

        :param fields: the editable fields, as `domain.fields` declares them
        """
        return self.insert({**fields, **_search_columns(fields), **_as_new(owner_id, now)})

    def create_many(self, products: Sequence[Mapping[str, Any]], owner_id: int, now: datetime) -> Sequence[int]:
        """Insert products, like `create`, and return their ids."""
        ids = self.next_ids(len(products))
        rows = [
            {"id": product_id, **fields, **_search_columns(fields)}
            for product_id, fields in zip(ids, products, strict=True)
        ]
        self.insert_many(rows, _as_new(owner_id, now))
        return ids

    def store_changes(self, products: Sequence[Product], names: Collection[str], now: datetime) -> None:
        """Update products that `lock_by_id_or_sku` has returned. Raises SkuTaken.

        :param names: the editable fields that have changed, in any of the products
        """
        searched = not SEARCHED.isdisjoint(names)
        rows = [
            {
                **{name: getattr(each, name) for name in ("id", "version", *names)},
                **(_search_columns(fields_of(each)) if searched else {}),
            }
            for each in products
        ]
        common = {"version": Product.version + 1, "updated_at": now}
        if self.update_many(rows, ("id", "version"), common) != len(rows):
            raise StaleDataError  # A bug: they are locked.
        for each in products:
            each.version += 1
            each.updated_at = now

    def adjust_quantity(self, product_id: int, delta: int, now: datetime, precondition: Precondition) -> Product | None:
        """Add to the quantity in a single statement, and return the updated product.

        Returns None if the product does not exist, the precondition does not permit its version, or its quantity would
        leave the valid range.
        """
        statement = (
            update(Product)
            # Written this way, no sum overflows the type of the column.
            .where(Product.id == product_id, Product.quantity >= -delta, Product.quantity <= MAX_QUANTITY - delta)
            .values(quantity=Product.quantity + delta, version=Product.version + 1, updated_at=now)
            .returning(Product)
            .execution_options(populate_existing=True)
        )
        if precondition.match is not None:
            statement = statement.where(Product.version.in_(precondition.match))
        if precondition.none_match is None:
            statement = statement.where(false())
        elif precondition.none_match:
            statement = statement.where(Product.version.not_in(precondition.none_match))
        return self._session.scalars(statement).one_or_none()

    def find_by_id_or_sku(self, ids: Collection[int], skus: Collection[str]) -> Sequence[Product]:
        """The products with these ids or SKUs."""
        return self._session.scalars(self._by_id_or_sku(ids, skus)).all()

    def lock_by_id_or_sku(self, ids: Collection[int], skus: Collection[str]) -> Sequence[Product]:
        """The products with these ids or SKUs, locked until the transaction ends.

        They don't belong to the session: `store_changes` stores their changes.
        """
        # Ordered, so that two transactions that lock the same products do not deadlock.
        statement = self._by_id_or_sku(ids, skus).order_by(Product.id).with_for_update()
        products = self._session.scalars(statement).all()
        for each in products:
            self._session.expunge(each)
        return products

    def count_without_sku(self, owner_id: int, names: Iterable[str]) -> dict[tuple[Any, ...], int]:
        """Count the owner's products without a SKU that have these names, by their editable fields.

        Blocks other transactions that call this for the same owner, until this transaction ends.
        """
        self._lock_owner(owner_id)
        fields = [getattr(Product, name) for name in EDITABLE_FIELDS]
        statement = (
            select(*fields, func.count())
            .where(
                Product.owner_id == owner_id,
                Product.sku.is_(None),
                Product.name_key.in_({name_key(fold(name)) for name in names}),
            )
            .group_by(*fields)
        )
        return {tuple(values): count for *values, count in self._session.execute(statement)}

    def count_of_owner(self, owner_id: int, maximum: int) -> int:
        """Count the owner's products, up to `maximum`.

        Blocks other transactions that call this for the same owner, until this transaction ends.
        """
        self._lock_owner(owner_id)
        return self._session.connection().scalars(_COUNT_OF_OWNER, {"owner_id": owner_id, "maximum": maximum}).one()

    def _lock_owner(self, owner_id: int) -> None:
        if self._session.get_bind().dialect.name == "postgresql":
            # There may be no rows to lock yet. SQLite has a single writer anyway.
            self._session.connection().execute(_LOCK_OF_OWNER, {"owner_id": owner_id})

    def selected(
        self, criteria: Criteria, limit: int, *, skip: int = 0, after: Sequence[Any] | None = None
    ) -> Sequence[Product]:
        """Up to `limit` matching products, in order.

        :param skip: the number of products to skip
        :param after: return only products after this position, see `Criteria.position`
        """
        by = None if criteria.sort == "id" else getattr(Product, criteria.sort_column)
        conditions = self._conditions(criteria)
        return self.page(limit, *conditions, by=by, descending=criteria.descending, after=after, skip=skip)

    def count(self, criteria: Criteria, limit: int) -> int:
        """The number of matching products, or `limit` if there are more."""
        matching = select(Product.id).where(*self._conditions(criteria)).limit(limit).subquery()
        return self._session.scalars(select(func.count()).select_from(matching)).one()

    def _by_id_or_sku(self, ids: Collection[int], skus: Collection[str]) -> Select[Product]:
        # Without the one that finds nothing, the plan is better.
        conditions = [self.is_one_of(column, each) for column, each in ((Product.id, ids), (Product.sku, skus)) if each]
        return self.base().where(or_(false(), *conditions))

    def _conditions(self, criteria: Criteria) -> list[Condition]:
        conditions: list[Condition] = []
        if criteria.q is not None:
            conditions.append(self._matching(criteria.q))
        if criteria.min_price is not None:
            conditions.append(Product.price >= criteria.min_price)
        if criteria.max_price is not None:
            conditions.append(Product.price <= criteria.max_price)
        if criteria.currency is not None:
            conditions.append(_any_of(Product.currency, criteria.currency))
        if criteria.category is not None:
            conditions.append(_any_of(Product.category, criteria.category))
        if criteria.sku is not None:
            conditions.append(Product.sku == criteria.sku)
        if criteria.in_stock is not None:
            conditions.append(Product.quantity > 0 if criteria.in_stock else Product.quantity == 0)
        if criteria.owner_id is not None:
            conditions.append(_any_of(Product.owner_id, criteria.owner_id))
        if criteria.updated_since is not None:
            conditions.append(Product.updated_at >= criteria.updated_since)
        return conditions

    def _matching(self, q: str) -> TextClause:
        condition, word, beginning, conjunction = _SEARCH[self._session.get_bind().dialect.name]
        words = ((word if each.is_whole else beginning).format(each.text) for each in search_words(q))
        return text(condition).bindparams(q=conjunction.join(words))


def _as_new(owner_id: int, now: datetime) -> dict[str, Any]:
    return {"owner_id": owner_id, "version": FIRST_VERSION, "created_at": now, "updated_at": now}


def _search_columns(fields: Mapping[str, Any]) -> dict[str, str]:
    name_key, words = search_columns(fields["name"], fields["description"], fields["sku"])
    return {"name_key": name_key, "words": words}


def _any_of(column: InstrumentedAttribute[Any], values: Sequence[Any]) -> Condition:
    # With an equality, SQLite reads an index in the order of its next column.
    return column == values[0] if len(values) == 1 else column.in_(values)
