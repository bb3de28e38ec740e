"""Password hashes, through passlib: the only module that imports it.

`bcrypt_sha256` hashes the whole password, where bcrypt by itself looks at its first 72 bytes only. A hash takes a
quarter of a second on purpose: it is computed in a small pool of threads of its own (bcrypt releases the
interpreter's lock), never on the event loop, and never while a database connection is held.

Plain bcrypt hashes, of an earlier system say, are accepted and replaced at the next login.
"""

import os
import unicodedata
from dataclasses import dataclass

from passlib.context import CryptContext

from chassis.thread_pool import BoundedThreadPool
from user_service.errors import PasswordsBusy

_LONGEST_FOR_BCRYPT = 72  # bytes; the rest was never part of such a hash


@dataclass(frozen=True)
class Verdict:
    """Whether the password is right, and whether its hash is not as new ones are: another scheme, or another cost."""

    matches: bool
    is_outdated: bool


class Passwords:
    def __init__(self, cost: int, queue_timeout: float) -> None:
        """
        :param cost: bcrypt's, the logarithm of its rounds
        :param queue_timeout: seconds to wait for one of the threads before PasswordsBusy
        """
        self._schemes = CryptContext(
            schemes=["bcrypt_sha256", "bcrypt"], deprecated=["bcrypt"], bcrypt_sha256__rounds=cost
        )
        self._threads = BoundedThreadPool("passwords", os.cpu_count() or 1, queue_timeout, PasswordsBusy)
        # What the password of an unknown name is compared with, so that the answer takes as long.
        self._dummy_hash = self._schemes.hash("")

    async def hash(self, password: str) -> str:
        """The hash to store, with its salt, scheme and cost in it; raises PasswordsBusy."""
        return await self._threads.run(self._hash, normalised(password))

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Whether `stored` is a hash of the password; it is not, after the same time, where there is none.

        Raises PasswordsBusy.
        """
        return await self._threads.run(self._verify, normalised(password), stored)

    def close(self) -> None:
        self._threads.close()

    def _hash(self, password: str) -> str:
        return str(self._schemes.hash(password))

    def _verify(self, password: str, stored: str | None) -> Verdict:
        try:
            return self._compare(password, stored)
        except ValueError:
            # What is stored is no hash that can be read: nobody's password is right for it.
            return self._compare(password, None)

    def _compare(self, password: str, stored: str | None) -> Verdict:
        # The same steps for somebody and for nobody, right and wrong: what is left out could be measured.
        compared = self._dummy_hash if stored is None else stored
        secret = password.encode()
        if self._schemes.identify(compared) == "bcrypt":
            secret = secret[:_LONGEST_FOR_BCRYPT]
        matches = bool(self._schemes.verify(secret, compared))
        is_outdated = bool(self._schemes.needs_update(compared))
        return Verdict(matches and stored is not None, is_outdated)


def normalised(password: str) -> str:
    """The same for what is typed on another keyboard: composed characters, and one kind of space (RFC 8265, 4.2.2)."""
    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    return unicodedata.normalize("NFC", spaced)
