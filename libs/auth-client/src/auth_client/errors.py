"""Domain errors of token validation."""

from datetime import timedelta

from chassis.errors import Unavailable


class AuthUnavailable(Unavailable):
    """The token was not validated: it may be valid or not."""

    code = "auth-unavailable"
    detail = "Your access token cannot be checked at the moment; it may well be fine. Please try again."

    def __init__(self, retry_after: timedelta | None = None) -> None:
        super().__init__()
        if retry_after is not None:
            self.retry_after = retry_after
