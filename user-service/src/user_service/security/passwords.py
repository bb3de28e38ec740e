"""Password hashing. The only module that imports passlib.

`bcrypt_sha256` hashes the whole password; plain bcrypt ignores everything after 72 bytes. A hash deliberately takes a
quarter of a second. It runs in its own small thread pool (bcrypt releases the GIL), never on the event loop and never
while a database connection is held.

Plain bcrypt hashes, from an earlier system for example, are accepted and replaced at the next login.
"""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from passlib.context import CryptContext

from chassis.thread_pool import BoundedThreadPool
from user_service.errors import PasswordsBusy
from user_service.security.common_passwords import is_common, is_guessable

MAX_COST = 17
"""The highest bcrypt cost of new hashes; a hash takes eight seconds."""

_BCRYPT_MAX_BYTES = 72  # bcrypt ignores the rest
_PATTERNS = ("$2_${cost:02}$%", "$bcrypt-sha256$2_,{cost}$%", "$bcrypt-sha256$v=2,t=2_,r={cost}$%")
"""What hashes of a cost look like, for LIKE in SQL."""


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
        self._cost = cost
        self._highest_cost = cost
        self._schemes = CryptContext(
            schemes=["bcrypt_sha256", "bcrypt"], deprecated=["bcrypt"], bcrypt_sha256__rounds=cost
        )
        threads = os.cpu_count() or 1
        self._threads = BoundedThreadPool("passwords", threads, queue_timeout, PasswordsBusy)
        self._strangers = BoundedThreadPool("passwords", threads, queue_timeout, PasswordsBusy, beside=self._threads)

    async def hash(self, password: str, *, stranger: bool = False, client: str | None = None) -> str:
        """Hash a password. The result includes salt, scheme and cost. Raises PasswordsBusy.

        :param stranger: wait in the queue for callers that nothing is known of, who can't keep out the others
        :param client: the network of the caller, whose calls can't keep out those of other networks either
        """
        return await self._queue(stranger=stranger).run_for(client, self._hash, normalize(password))

    async def verify(
        self, password: str, stored: str | None, *, stranger: bool = False, client: str | None = None
    ) -> Verification:
        """Verify a password against a stored hash; without one, it fails after the same time.

        :param stranger: as for `hash`
        :param client: as for `hash`

        Raises PasswordsBusy.
        """
        return await self._queue(stranger=stranger).run_for(client, self._verify, normalize(password), stored)

    async def is_common(self, password: str, *, stranger: bool = False, client: str | None = None) -> bool:
        """Whether a new password is one of the most common ones; raises PasswordsBusy.

        :param stranger: as for `hash`
        :param client: as for `hash`
        """
        return await self._queue(stranger=stranger).run_for(client, is_common, normalize(password))

    async def is_guessable(
        self, password: str, username: str, *, stranger: bool = False, client: str | None = None
    ) -> bool:
        """Whether a new password of this user is guessed easily; raises PasswordsBusy.

        :param stranger: as for `hash`
        :param client: as for `hash`
        """
        return await self._queue(stranger=stranger).run_for(client, is_guessable, normalize(password), username)

    def higher_costs(self) -> Mapping[int, Sequence[str]]:
        """The costs above that of new hashes, and the LIKE patterns of hashes with this cost."""
        costs = range(self._cost + 1, MAX_COST + 1)
        return {cost: [pattern.format(cost=cost) for pattern in _PATTERNS] for cost in costs}

    def expect(self, cost: int) -> None:
        """Some stored hash has this cost: from now on, each verification takes at least as long as for that one."""
        self._highest_cost = max(self._highest_cost, min(cost, MAX_COST))

    def close(self) -> None:
        self._threads.close()

    def _queue(self, *, stranger: bool) -> BoundedThreadPool:
        return self._strangers if stranger else self._threads

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
        compared = _dummy_hash(self._highest_cost) if stored is None else stored
        secret = password.encode()
        scheme = self._schemes.identify(compared)
        truncated = secret[:_BCRYPT_MAX_BYTES] if scheme == "bcrypt" else secret
        matches = bool(self._schemes.verify(truncated, compared))
        is_outdated = bool(self._schemes.needs_update(compared))
        # Each cost takes twice as long as the one below. So one hash of each cost from this one up takes as long as
        # what is missing to the highest one.
        cost = self._schemes.handler(scheme).from_string(compared).rounds
        self.expect(cost)
        for missing in range(cost, self._highest_cost):
            self._schemes.verify(secret, _dummy_hash(missing))
        return Verification(matches and stored is not None, is_outdated)


def _dummy_hash(cost: int) -> str:
    """The hash of an unknown password. Verified for unknown usernames, so that they take as long as known ones."""
    return f"$bcrypt-sha256$v=2,t=2b,r={cost}$jigwQcpdxiT9HsscOs6LzO$86cFAPKysb3EiVrS09zHhGKyprHh71O"


def normalize(password: str) -> str:
    """Normalize to NFC and plain spaces (RFC 8265, section 4.2.2), so that passwords don't depend on the keyboard."""
    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    return unicodedata.normalize("NFC", spaced)
