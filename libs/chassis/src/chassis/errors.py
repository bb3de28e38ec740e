"""Domain errors: facts about the domain, each with a stable code and a category. They know nothing of HTTP.

    DomainError
    ├── Invalid            the request breaks a rule of the domain
    ├── Unauthenticated    the caller is unknown
    ├── Forbidden          the caller is known but not allowed to do this
    ├── NotFound           the thing does not exist
    ├── Conflict           the current state does not allow it
    ├── PreconditionFailed the request may not change this version of the thing
    ├── Throttled          too many requests
    └── Unavailable        a dependency does not respond at the moment

Services define subclasses (``class UsernameTaken(Conflict)``) and raise them in any layer below the API.
`chassis.http.problems` maps the category to a status and a body, and documents the same classes in OpenAPI.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """An error in one field or parameter.

    `pointer` is a JSON Pointer (RFC 6901) into the body, such as `/price`. For a header or a query parameter,
    `parameter` is its name instead.
    """

    pointer: str | None
    detail: str
    parameter: str | None = None


class DomainError(Exception):
    """The base of all domain errors. `code` never changes once published; `detail` is a sentence for people."""

    code: ClassVar[str]
    detail: str
    retry_after: timedelta | None = None
    """How long the caller should wait before trying again; None if a retry would not help."""

    def __init__(self, detail: str | None = None) -> None:
        if detail is not None:
            self.detail = detail
        super().__init__(self.detail)


class Invalid(DomainError):
    code = "validation-failed"
    detail = "The request is invalid; see `errors`."
    errors: tuple[FieldError, ...] = ()

    def __init__(self, errors: Sequence[FieldError] | None = None) -> None:
        super().__init__()
        if errors is not None:
            self.errors = tuple(errors)


class Unauthenticated(DomainError):
    """`scheme` says how to authenticate. `bearer_error` is the error code of RFC 6750, section 3.1; None if the request
    has no credentials.
    """

    scheme: ClassVar[str] = "Bearer"
    bearer_error: ClassVar[str | None] = None


class NotAuthenticated(Unauthenticated):
    code = "not-authenticated"
    detail = "An access token is required. Send it as: Authorization: Bearer TOKEN."


class InvalidToken(Unauthenticated):
    code = "invalid-token"
    detail = "The access token is invalid, has expired or was revoked. Please log in again."
    bearer_error = "invalid_token"


class Forbidden(DomainError):
    pass


class NotFound(DomainError):
    pass


class Conflict(DomainError):
    pass


class PreconditionFailed(DomainError):
    """`version` is the current version."""

    code = "precondition-failed"
    detail = "The resource has changed since you read it. Nothing was changed; ETag has the current version."

    def __init__(self, version: int, detail: str | None = None) -> None:
        super().__init__(detail)
        self.version = version


class Throttled(DomainError):
    def __init__(self, retry_after: timedelta) -> None:
        super().__init__()
        self.retry_after = retry_after


class Unavailable(DomainError):
    retry_after = timedelta(seconds=2)


class Draining(Unavailable):
    code = "draining"
    detail = "The service is shutting down; please try again."


class Overloaded(Unavailable):
    code = "overloaded"
    detail = "The service handles too many of these requests at the moment. Nothing was changed; please try again."


class DatabaseUnavailable(Unavailable):
    code = "database-unavailable"
    detail = "The database is unavailable at the moment. Nothing was changed; please try again."


class OutcomeUnknown(Unavailable):
    code = "outcome-unknown"
    detail = (
        "The connection to the database was lost during the commit. Check whether the change was made before you retry."
    )


class DatabaseBusy(Unavailable):
    code = "database-busy"
    detail = "The database is too busy at the moment. Nothing was changed; please try again."


READ_ERRORS = (DatabaseUnavailable, DatabaseBusy, Overloaded)
"""The errors of every read, besides its own."""

WRITE_ERRORS = (*READ_ERRORS, OutcomeUnknown)
"""The errors of every write, besides its own."""
