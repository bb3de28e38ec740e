"""What can be said against a request of the user service."""

from chassis.errors import Conflict, Forbidden, NotFound, Unauthenticated


class UsernameTaken(Conflict):
    code = "username-taken"
    detail = "This username is taken; names that differ only in case are the same."


class InvalidCredentials(Unauthenticated):
    """One and the same for an unknown name, a wrong password and a disabled account."""

    code = "invalid-credentials"
    detail = "The username or the password is wrong."


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
