"""What can be said against a request of the user service."""

from chassis.errors import Conflict, FieldError, Invalid, Unauthenticated


class UsernameTaken(Conflict):
    code = "username-taken"
    detail = "This username is taken; names that differ only in case are the same."


class PasswordTooShort(Invalid):
    def __init__(self, shortest: int) -> None:
        super().__init__([FieldError("/password", f"The password needs at least {shortest} characters")])


class InvalidCredentials(Unauthenticated):
    """One and the same for an unknown name, a wrong password and a disabled account."""

    code = "invalid-credentials"
    detail = "The username or the password is wrong."
