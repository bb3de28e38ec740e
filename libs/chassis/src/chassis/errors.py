"""Domain errors: facts in domain words, with a stable code and a category, and no HTTP in them.

    DomainError
    ├── Invalid            what was asked for breaks a rule of the domain
    ├── Unauthenticated    nobody, or nobody known, is asking
    ├── Forbidden          the caller is known and may not
    ├── NotFound           there is no such thing
    ├── Conflict           it cannot be done in the present state
    ├── PreconditionFailed it has changed since the caller looked
    ├── Throttled          it was asked for too often
    └── Unavailable        something that is needed does not answer at the moment

A service derives its own (``class UsernameTaken(Conflict)``) and raises them from any layer below the API.
`chassis.http.problems` maps the category to a status and a body, and documents the same classes in OpenAPI.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field: `pointer` is a JSON Pointer (RFC 6901) into the body, `/price` say.

    `parameter` is the name of a header or of a query parameter instead.
    """

    pointer: str | None
    detail: str
    parameter: str | None = None


class DomainError(Exception):
    """A fact that ends a use case. `code` never changes once published; `detail` is a plain sentence for people."""

    code: ClassVar[str]
    detail: str
    retry_after: timedelta | None = None
    """How long a caller does well to wait before it tries again, where that may help."""

    def __init__(self, detail: str | None = None) -> None:
        if detail is not None:
            self.detail = detail
        super().__init__(self.detail)


class Invalid(DomainError):
    code = "validation-failed"
    detail = "The request is not valid; see errors."

    def __init__(self, errors: Sequence[FieldError] = ()) -> None:
        super().__init__()
        self.errors = tuple(errors)


class Unauthenticated(DomainError):
    """`bearer_error` is the error code of RFC 6750, section 3.1; none where no credentials were given."""

    bearer_error: ClassVar[str | None] = None


class NotAuthenticated(Unauthenticated):
    code = "not-authenticated"
    detail = "This needs an access token, sent as: Authorization: Bearer TOKEN."


class InvalidToken(Unauthenticated):
    code = "invalid-token"
    detail = "The access token is not valid, or not valid any more. Please log in again."
    bearer_error = "invalid_token"


class Forbidden(DomainError):
    pass


class NotFound(DomainError):
    pass


class Conflict(DomainError):
    pass


class PreconditionFailed(DomainError):
    """`version` is the one that is current."""

    code = "precondition-failed"
    detail = "It has changed since you looked at it, and was left as it is; the current version is in ETag."

    def __init__(self, version: int) -> None:
        super().__init__()
        self.version = version


class Throttled(DomainError):
    def __init__(self, retry_after: timedelta) -> None:
        super().__init__()
        self.retry_after = retry_after


class Unavailable(DomainError):
    retry_after = timedelta(seconds=2)


class DatabaseUnavailable(Unavailable):
    code = "database-unavailable"
    detail = "The database cannot be reached at the moment. Nothing was changed; please try again."


class OutcomeUnknown(Unavailable):
    code = "outcome-unknown"
    detail = "The database was lost while it stored the change: look whether it was made before you try again."


class DatabaseBusy(Unavailable):
    code = "database-busy"
    detail = "All database connections are in use at the moment. Nothing was changed; please try again."


READ_ERRORS = (DatabaseUnavailable, DatabaseBusy)
"""How every read may end, beside its own errors."""

WRITE_ERRORS = (*READ_ERRORS, OutcomeUnknown)
"""How every write may end, beside its own errors."""
