"""Domain errors of the product service."""

from collections.abc import Iterable
from datetime import timedelta

from chassis.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, Throttled, Unavailable


class ProductNotFound(NotFound):
    code = "product-not-found"
    detail = "No product has this id."


class NotTheOwner(Forbidden):
    code = "not-the-owner"
    detail = "Only the product's owner or an admin can do this."


class ProductQuotaExceeded(Forbidden):
    code = "product-quota-exceeded"
    detail = "An account can have at most 10000 products. Delete some before you create others."

    def __init__(self, maximum: int) -> None:
        super().__init__(f"An account can have at most {maximum} products. Delete some before you create others.")


class TooManyWrites(Throttled):
    code = "too-many-writes"
    detail = "The account has sent too many requests that write. Retry-After says when the next one is accepted."


class InsufficientStock(Conflict):
    code = "insufficient-stock"
    detail = "Not enough items in stock. Nothing was changed."


class TooMuchStock(Conflict):
    code = "too-much-stock"
    detail = "The quantity would exceed its maximum. Nothing was changed."


class SkuTaken(Conflict):
    code = "sku-taken"
    detail = "Another product has this SKU."


class IdempotencyInProgress(Conflict):
    code = "idempotency-in-progress"
    detail = "A request with this Idempotency-Key is still in progress. Retry later."
    retry_after = timedelta(seconds=2)


class IdempotencyKeyReused(Invalid):
    code = "idempotency-key-reused"
    detail = "This Idempotency-Key was used for a different request. Use a new key."
    errors = (FieldError(None, "Already used for a different request", "Idempotency-Key"),)


class ImportInProgress(Conflict):
    code = "import-in-progress"
    detail = "Another import of this account is running. Try again when it has ended."
    retry_after = timedelta(seconds=5)


class ImportLimitExceeded(Invalid):
    """A file has more lines of some kind than an import accepts."""

    code = "import-limit-exceeded"
    detail = "The import stopped, because the file exceeds a limit; see `errors`."
    errors = (FieldError(None, "More than 10000 lines were refused; correct the file"),)

    def __init__(self, problem: str, refused_lines: Iterable[str] = ()) -> None:
        super().__init__([FieldError(None, detail) for detail in (problem, *refused_lines)])


class ImportInterrupted(Unavailable):
    """The database became unavailable during an import."""

    code = "import-interrupted"
    detail = (
        "The import stopped because the database is unavailable. Products imported so far are saved; "
        "import the same file again to complete it."
    )
