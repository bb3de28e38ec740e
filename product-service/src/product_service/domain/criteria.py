"""Filters and sort order of a list of products."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from product_service.models import Product

MAX_COUNT = 10_000
"""Products are counted up to here: a client that shows more pages needs no exact number."""

SortField = Literal["id", "name", "price", "quantity", "created_at", "updated_at"]


@dataclass(frozen=True)
class Criteria:
    """A filter that is None does not apply; of several values, any may match. Ties are broken by id, in the direction
    of the sort.
    """

    sort: SortField = "id"
    descending: bool = False
    q: str | None = None
    """Words of the name, the description or the SKU, or their beginnings; see `search_text.search_words`."""
    min_price: Decimal | None = None
    max_price: Decimal | None = None
    currency: Sequence[str] | None = None
    category: Sequence[str] | None = None
    sku: str | None = None
    in_stock: bool | None = None
    owner_id: Sequence[int] | None = None
    updated_since: datetime | None = None
    """Inclusive."""

    @property
    def sort_column(self) -> str:
        """The attribute of a product to sort by. Names are compared in folded form."""
        return "name_key" if self.sort == "name" else self.sort

    def position(self, product: "Product") -> tuple[Any, ...]:
        """The product's position in this order: its values in the sort columns."""
        return tuple(getattr(product, column) for column in dict.fromkeys((self.sort_column, "id")))
