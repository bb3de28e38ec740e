"""What can be said against a request of the user service."""

from chassis.errors import Conflict, Forbidden, NotFound, Unauthenticated


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
    detail = "There is no account with this id."


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
