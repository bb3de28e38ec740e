"""What may happen to accounts, and in which order.

A password hash takes long, so none is computed while a database connection is held: read, hash, then write.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chassis.database import Unit
from chassis.errors import InvalidToken
from user_service.errors import InvalidCredentials, PasswordTooShort
from user_service.models import User
from user_service.passwords import Passwords
from user_service.repositories import UserRepository
from user_service.tokens import TokenRefused, Tokens


@dataclass(frozen=True)
class Identity:
    """Whom a token stands for, and until when."""

    user: User
    expires_at: datetime


@dataclass(frozen=True)
class Login:
    """A new access token, whose it is, and how long it is valid."""

    user: User
    access_token: str
    lifetime: timedelta


class Accounts:
    """Registration, login, and what a token is worth."""

    def __init__(
        self,
        read: Unit[UserRepository],
        write: Unit[UserRepository],
        passwords: Passwords,
        tokens: Tokens,
        password_min_length: int,
    ) -> None:
        self._read = read
        self._write = write
        self._passwords = passwords
        self._tokens = tokens
        self._password_min_length = password_min_length

    async def register(self, username: str, password: str) -> User:
        """Open an account; raises PasswordTooShort or UsernameTaken."""
        if len(password) < self._password_min_length:
            raise PasswordTooShort(self._password_min_length)
        password_hash = await self._passwords.hash(password)
        now = datetime.now(UTC)
        return await self._write(
            lambda users: users.add(
                User(
                    username=username,
                    username_key=username.casefold(),
                    password_hash=password_hash,
                    is_active=True,
                    created_at=now,
                    updated_at=now,
                )
            )
        )

    async def log_in(self, username: str, password: str) -> Login:
        """A new access token for this account.

        Raises InvalidCredentials, after the same time, for an unknown name, a wrong password and a disabled account.
        """
        user = await self._read(lambda users: users.find_by_username(username))
        matches = await self._passwords.verify(password, user.password_hash if user else None)
        if user is None or not matches or not user.is_active:
            raise InvalidCredentials
        return Login(user, self._tokens.issue(user.id, datetime.now(UTC)), self._tokens.lifetime)

    async def identify(self, token: str) -> Identity:
        """Whom the token stands for at this moment; raises InvalidToken, with the reason as its detail."""
        try:
            claims = self._tokens.read(token, datetime.now(UTC))
        except TokenRefused as refusal:
            raise InvalidToken(str(refusal)) from None
        user = await self._read(lambda users: users.find(claims.user_id))
        if user is None or not user.is_active:
            raise InvalidToken("The account of this token does not exist any more, or is disabled.")
        return Identity(user, claims.expires_at)
