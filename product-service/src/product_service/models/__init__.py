"""The tables of the product service."""

from product_service.models.changes import Change
from product_service.models.idempotency import KeptAnswer
from product_service.models.products import Product
from product_service.models.schema import Base

__all__ = ["Base", "Change", "KeptAnswer", "Product"]
