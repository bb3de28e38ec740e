"""Which products are asked for, and in which order."""

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from product_service.models import Product

SortField = Literal["id", "name", "price", "quantity", "created_at", "updated_at"]


@dataclass(frozen=True)
class Criteria:
    """None leaves a question open. Equal products are sorted by id, in the direction of the sort."""

    sort: SortField = "id"
    descending: bool = False
    q: str | None = None
    """Words, each of which begins a word of the name or of the description."""
    min_price: Decimal | None = None
    max_price: Decimal | None = None
    currency: str | None = None
    category: str | None = None
    in_stock: bool | None = None
    owner_id: int | None = None

    @property
    def sort_column(self) -> str:
        """The attribute of a product that decides its place; names are compared by their folded form."""
        return "name_key" if self.sort == "name" else self.sort

    def position(self, product: "Product") -> tuple[Any, ...]:
        """Where the product stands in this order: its values in the columns of the order."""
        return tuple(getattr(product, column) for column in dict.fromkeys((self.sort_column, "id")))
