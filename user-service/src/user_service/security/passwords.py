"""Password hashing. The only module that imports passlib.

`bcrypt_sha256` hashes the whole password; plain bcrypt ignores everything after 72 bytes. A hash deliberately takes a
quarter of a second. It runs in its own small thread pool (bcrypt releases the GIL), never on the event loop and never
while a database connection is held.

Plain bcrypt hashes, from an earlier system for example, are accepted and replaced at the next login.
"""

import os
import unicodedata
from dataclasses import dataclass

from passlib.context import CryptContext

from chassis.thread_pool import BoundedThreadPool
from user_service.errors import PasswordsBusy
from user_service.security.common_passwords import is_guessable

_BCRYPT_MAX_BYTES = 72  # bcrypt ignores the rest


@dataclass(frozen=True)
class Verification:
    """Whether the password matches, and whether its hash is outdated: it has another scheme or cost than new ones."""

    matches: bool
    is_outdated: bool


class Passwords:
    def __init__(self, cost: int, queue_timeout: float) -> None:
        """
        :param cost: bcrypt cost, the binary logarithm of the number of rounds
        :param queue_timeout: seconds to wait for a free thread before raising PasswordsBusy
        """
        self._schemes = CryptContext(
            schemes=["bcrypt_sha256", "bcrypt"], deprecated=["bcrypt"], bcrypt_sha256__rounds=cost
        )
        self._threads = BoundedThreadPool("passwords", os.cpu_count() or 1, queue_timeout, PasswordsBusy)
        # Verified against for unknown usernames, so that they take as long as known ones. The hash of an unknown
        # password: making one here would take as long as a login.
        self._dummy_hash = f"$bcrypt-sha256$v=2,t=2b,r={cost}$jigwQcpdxiT9HsscOs6LzO$86cFAPKysb3EiVrS09zHhGKyprHh71O"

    async def hash(self, password: str) -> str:
        """Hash a password. The result includes salt, scheme and cost. Raises PasswordsBusy."""
        return await self._threads.run(self._hash, normalize(password))

    async def verify(self, password: str, stored: str | None) -> Verification:
        """Verify a password against a stored hash; without one, it fails after the same time.

        Raises PasswordsBusy.
        """
        return await self._threads.run(self._verify, normalize(password), stored)

    async def is_guessable(self, password: str, username: str) -> bool:
        """Whether a new password of this user is guessed easily; raises PasswordsBusy."""
        return await self._threads.run(is_guessable, normalize(password), username)

    def close(self) -> None:
        self._threads.close()

    def _hash(self, password: str) -> str:
        return str(self._schemes.hash(password))

    def _verify(self, password: str, stored: str | None) -> Verification:
        try:
            return self._compare(password, stored)
        except ValueError:
            # The stored hash is unreadable, so no password matches it.
            return self._compare(password, None)

    def _compare(self, password: str, stored: str | None) -> Verification:
        # Takes the same steps for known and unknown usernames, right and wrong passwords: skipped work is measurable.
        compared = self._dummy_hash if stored is None else stored
        secret = password.encode()
        if self._schemes.identify(compared) == "bcrypt":
            secret = secret[:_BCRYPT_MAX_BYTES]
        matches = bool(self._schemes.verify(secret, compared))
        is_outdated = bool(self._schemes.needs_update(compared))
        return Verification(matches and stored is not None, is_outdated)


def normalize(password: str) -> str:
    """Normalize to NFC and plain spaces (RFC 8265, section 4.2.2), so that passwords don't depend on the keyboard."""
    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    return unicodedata.normalize("NFC", spaced)
