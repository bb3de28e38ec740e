"""How products are stored and found."""

from typing import ClassVar

from chassis.errors import DomainError
from chassis.repository import BaseRepository
from product_service.errors import SkuTaken
from product_service.models import Product


class ProductRepository(BaseRepository[Product]):
    model = Product
    conflicts: ClassVar[dict[str, type[DomainError]]] = {"products.sku": SkuTaken}
