"""Accounts: how they begin, change their password and end."""

from datetime import UTC, datetime

from chassis.database import Unit
from chassis.errors import FieldError, Invalid
from user_service.common_passwords import HOW_MANY, is_common
from user_service.errors import LastAdmin, WrongPassword
from user_service.models import User
from user_service.passwords import Passwords
from user_service.repositories import Repositories
from user_service.services import audit
from user_service.services.sessions import Identity


class Accounts:
    def __init__(
        self,
        read: Unit[Repositories],
        write: Unit[Repositories],
        passwords: Passwords,
        password_min_length: int,
    ) -> None:
        self._read = read
        self._write = write
        self._passwords = passwords
        self._password_min_length = password_min_length

    async def register(self, username: str, password: str) -> User:
        """Open an account; raises Invalid for a password that is too short or too common, or UsernameTaken."""
        self._check(password, "/password")
        password_hash = await self._passwords.hash(password)
        now = datetime.now(UTC)
        user = await self._write(
            lambda to: to.users.add(
                User(
                    username=username,
                    username_key=username.casefold(),
                    password_hash=password_hash,
                    is_active=True,
                    is_admin=False,
                    created_at=now,
                    updated_at=now,
                )
            )
        )
        audit.log("account opened", user_id=user.id)
        return user

    async def change_password(self, identity: Identity, current: str, new: str) -> None:
        """Set a new password, and end every other session; raises WrongPassword or Invalid."""
        self._check(new, "/new_password")
        await self._prove(identity.user, current)
        new_hash = await self._passwords.hash(new)

        def store(to: Repositories) -> None:
            user = self._unchanged(to, identity.user)
            user.password_hash = new_hash
            user.updated_at = datetime.now(UTC)
            to.users.flush()
            to.sessions.end_all(user.id, but=identity.session_id)

        await self._write(store)
        audit.log("password changed", user_id=identity.user.id)

    async def delete(self, identity: Identity, current: str) -> None:
        """End the account, with all its sessions; its name becomes free. Raises WrongPassword or LastAdmin."""
        await self._prove(identity.user, current)

        def remove(to: Repositories) -> None:
            admins = to.users.lock_active_admins()
            user = self._unchanged(to, identity.user)
            if admins == [user.id]:
                raise LastAdmin
            to.users.remove(user)

        await self._write(remove)
        audit.log("account deleted", user_id=identity.user.id)

    def _check(self, password: str, pointer: str) -> None:
        if len(password) < self._password_min_length:
            shortest = f"The password needs at least {self._password_min_length} characters"
            raise Invalid([FieldError(pointer, shortest)])
        if is_common(password):
            raise Invalid([FieldError(pointer, f"This is one of the {HOW_MANY:,} most common passwords")])

    async def _prove(self, user: User, password: str) -> None:
        verdict = await self._passwords.verify(password, user.password_hash)
        if not verdict.matches:
            raise WrongPassword

    @staticmethod
    def _unchanged(to: Repositories, user: User) -> User:
        """The account's row, locked, with the password that was proven; raises WrongPassword where it has another."""
        locked = to.users.find(user.id, for_update=True)
        if locked is None or locked.password_hash != user.password_hash:
            raise WrongPassword
        return locked
