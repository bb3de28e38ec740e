"""Domain errors of the user service."""

from chassis.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, Throttled, Unauthenticated, Unavailable


class UsernameTaken(Conflict):
    code = "username-taken"
    detail = "This username is taken. Usernames are case-insensitive."


class RegistrationClosed(Forbidden):
    code = "registration-closed"
    detail = "Registration is closed. Ask an admin for an account."


class InvalidCredentials(Unauthenticated):
    """The same for an unknown username, a wrong password and a disabled account, so that it reveals nothing."""

    code = "invalid-credentials"
    detail = "The username or password is wrong."


class AdminsOnly(Forbidden):
    code = "forbidden"
    detail = "Only admins can do this."


class OwnAccount(Forbidden):
    """An access token alone, which may be stolen, must not be enough to take over or delete its own account."""

    code = "own-account"
    detail = "This is your own account. Use /me, which asks for the current password."


class UserNotFound(NotFound):
    code = "user-not-found"
    detail = "The account does not exist."


class LastAdmin(Conflict):
    code = "last-admin"
    detail = "This is the last active admin. Make another account an admin first."


class InvalidServiceKey(Unauthenticated):
    code = "invalid-service-key"
    detail = "A valid service key is required. Send it in the X-Service-Key header."


class InvalidClient(Unauthenticated):
    code = "invalid-client"
    detail = "A valid service key is required. Send its name and the key with HTTP Basic authentication."
    scheme = 'Basic realm="user-service"'


class UnsupportedGrantType(Invalid):
    code = "unsupported-grant-type"
    detail = "This operation doesn't support the grant type; see `errors`."
    errors = (FieldError("/grant_type", "The grant type must be password or refresh_token"),)


class SessionRevoked(Unauthenticated):
    code = "session-revoked"
    detail = "The session was revoked or has expired. Please log in again."


class RefreshTokenReused(SessionRevoked):
    """For clients the same: one with a stolen copy learns nothing."""


class NoRefreshCookie(SessionRevoked):
    """The cookie may never have been sent, or may have expired: clients must log in again in either case."""

    detail = (
        'The request has no refresh token cookie. A script must send it with credentials: "include", from the same '
        "site as this service and over HTTPS. Otherwise the cookie has expired; please log in again."
    )


class OriginNotAllowed(Forbidden):
    code = "origin-not-allowed"
    detail = "Pages of this origin may not use the refresh token cookie; see ALLOWED_ORIGINS."


class SessionNotFound(NotFound):
    code = "session-not-found"
    detail = "The account has no session with this id."


class WrongPassword(Forbidden):
    """Forbidden, not Unauthenticated: the session is valid."""

    code = "wrong-password"
    detail = "The current password is wrong."


class TooManyAttempts(Throttled):
    code = "too-many-attempts"
    detail = "Too many attempts. Try again after the number of seconds in Retry-After."


class PasswordsBusy(Unavailable):
    """Too many concurrent password checks. Each takes 0.25 s of CPU and waits at most PASSWORD_QUEUE_TIMEOUT."""

    code = "passwords-busy"
    detail = "The service is checking too many passwords right now. Nothing was changed. Please try again."


PASSWORD_ERRORS = (TooManyAttempts, PasswordsBusy)
"""Errors of every operation that verifies or hashes a password, in addition to its own."""
