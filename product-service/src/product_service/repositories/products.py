"""How products are stored and found."""

from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import ClassVar

from sqlalchemy import update

from chassis.errors import DomainError
from chassis.repository import BaseRepository
from product_service.errors import SkuTaken
from product_service.models import Product
from product_service.models.products import LARGEST_QUANTITY


class ProductRepository(BaseRepository[Product]):
    model = Product
    conflicts: ClassVar[dict[str, type[DomainError]]] = {"products.sku": SkuTaken}

    def adjust_quantity(
        self, product_id: int, delta: int, now: datetime, versions: AbstractSet[int] | None
    ) -> Product | None:
        """Add to the quantity, in one statement that leaves it within its range; the product as it is then.

        None where there is no such product, it has none of these versions, or its quantity would leave the range.
        """
        statement = (
            update(Product)
            # Compared like this, no sum leaves the range of the column's type.
            .where(Product.id == product_id, Product.quantity >= -delta, Product.quantity <= LARGEST_QUANTITY - delta)
            .values(quantity=Product.quantity + delta, version=Product.version + 1, updated_at=now)
            .returning(Product)
            .execution_options(populate_existing=True)
        )
        if versions is not None:
            statement = statement.where(Product.version.in_(versions))
        return self._session.scalars(statement).one_or_none()
