"""The metrics that only the user service has. They don't count what commands of the operator do."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from chassis.errors import DomainError, Throttled, Unauthenticated, Unavailable
from chassis.metrics import Counter
from user_service.errors import RefreshTokenReused

P = ParamSpec("P")
T = TypeVar("T")

_OUTCOMES = {Throttled: "throttled", Unauthenticated: "refused", Unavailable: "unavailable"}
_REUSE = {RefreshTokenReused: "reuse_detected"}

LOGINS = Counter("auth_logins_total", "Logins by outcome.", outcome=("succeeded", "failed", *_OUTCOMES.values()))
REFRESHES = Counter(
    "auth_refreshes_total",
    "Refreshes by outcome.",
    outcome=("succeeded", "failed", *_OUTCOMES.values(), *_REUSE.values()),
)
SESSIONS_REVOKED = Counter(
    "auth_sessions_revoked_total",
    "Revoked sessions by reason.",
    reason=(
        "logged_out",
        "logged_out_everywhere",
        "revoked_by_user",
        "revoked_by_admin",
        "too_many_sessions",
        "refresh_token_reused",
        "password_changed",
        "account_disabled",
        "account_deleted",
    ),
)


def counts(attempts: Counter) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Decorate a use case whose calls are counted by outcome."""

    def decorate(use_case: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @wraps(use_case)
        async def counted(*args: P.args, **kwargs: P.kwargs) -> T:
            outcome = "failed"
            try:
                result = await use_case(*args, **kwargs)
                outcome = "succeeded"
            except DomainError as error:
                known = (name for kind, name in (_REUSE | _OUTCOMES).items() if isinstance(error, kind))
                outcome = next(known, outcome)
                raise
            finally:
                attempts.add(1, outcome)
            return result

        return counted

    return decorate
