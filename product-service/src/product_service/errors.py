"""What can be said against a request of the product service."""

from datetime import timedelta

from chassis.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, Unavailable


class ProductNotFound(NotFound):
    code = "product-not-found"
    detail = "There is no product with this id."


class NotTheOwner(Forbidden):
    code = "not-the-owner"
    detail = "Only the owner of a product, or an admin, may change it."


class InsufficientStock(Conflict):
    code = "insufficient-stock"
    detail = "There are not as many in stock. Nothing was changed."


class TooMuchStock(Conflict):
    code = "too-much-stock"
    detail = "There would be more in stock than can be counted. Nothing was changed."


class SkuTaken(Conflict):
    code = "sku-taken"
    detail = "Another product has this sku."


class IdempotencyInProgress(Conflict):
    code = "idempotency-in-progress"
    detail = "A request with this Idempotency-Key is being worked on. Please try again."
    retry_after = timedelta(seconds=2)


class IdempotencyKeyReused(Invalid):
    code = "idempotency-key-reused"
    detail = "This Idempotency-Key was sent with another request; choose a new one."

    def __init__(self) -> None:
        super().__init__([FieldError(None, "It was sent with another request", "Idempotency-Key")])


class ImportInterrupted(Unavailable):
    """The database was lost in the middle of an import."""

    code = "import-interrupted"
    detail = (
        "The import ended early, because the database could not be reached. What was imported before stays; "
        "import the same file again for the rest."
    )
