"""What can be said against a request of the user service."""

from chassis.errors import Conflict, Forbidden, NotFound, Throttled, Unauthenticated, Unavailable


class UsernameTaken(Conflict):
    code = "username-taken"
    detail = "This username is taken; names that differ only in case are the same."


class InvalidCredentials(Unauthenticated):
    """One and the same for an unknown name, a wrong password and a disabled account."""

    code = "invalid-credentials"
    detail = "The username or the password is wrong."


class AdminsOnly(Forbidden):
    code = "forbidden"
    detail = "Only an admin may do this."


class UserNotFound(NotFound):
    code = "user-not-found"
    detail = "There is no such account."


class LastAdmin(Conflict):
    code = "last-admin"
    detail = "This is the last active admin; make somebody else one first."


class InvalidServiceKey(Unauthenticated):
    code = "invalid-service-key"
    detail = "This is for services that have a key, sent as: X-Service-Key."


class SessionRevoked(Unauthenticated):
    code = "session-revoked"
    detail = "This session is over. Please log in again."


class SessionNotFound(NotFound):
    code = "session-not-found"
    detail = "You have no session with this id."


class WrongPassword(Forbidden):
    """Not a 401: the session is fine."""

    code = "wrong-password"
    detail = "The current password is wrong."


class TooManyAttempts(Throttled):
    code = "too-many-attempts"
    detail = "There were too many attempts; the next one is let through after the seconds in Retry-After."


class PasswordsBusy(Unavailable):
    """A storm of logins: each costs a quarter of a second of a core, and they wait no longer than a setting says."""

    code = "passwords-busy"
    detail = "Too many passwords are being checked at the moment. Nothing was changed; please try again."


PASSWORD_ERRORS = (TooManyAttempts, PasswordsBusy)
"""How every call may end that looks at a password, beside its own errors."""
