"""The tables of the product service."""

from product_service.models.changes import ProductChange
from product_service.models.idempotency import IdempotencyRecord
from product_service.models.products import Product
from product_service.models.schema import Base

__all__ = ["Base", "IdempotencyRecord", "Product", "ProductChange"]
