"""Database access for products, their history and idempotency records."""

from sqlalchemy.orm import Session

from product_service.repositories.changes import ProductChangeRepository
from product_service.repositories.idempotency import IdempotencyRepository
from product_service.repositories.products import ProductRepository


class Repositories:
    """All repositories, on the session of one transaction."""

    def __init__(self, session: Session) -> None:
        self.products = ProductRepository(session)
        self.changes = ProductChangeRepository(session)
        self.idempotency = IdempotencyRepository(session)
