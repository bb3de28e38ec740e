"""Password hashes, through passlib: the only module that imports it.

`bcrypt_sha256` hashes the whole password, where bcrypt by itself silently cuts it after 72 bytes. A hash takes a
quarter of a second on purpose: it is computed in a small pool of threads of its own (bcrypt releases the
interpreter's lock), never on the event loop, and never while a database connection is held.
"""

import asyncio
import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from passlib.hash import bcrypt_sha256

T = TypeVar("T")


class Passwords:
    def __init__(self, cost: int) -> None:
        """
        :param cost: bcrypt's, the logarithm of its rounds
        """
        self._scheme = bcrypt_sha256.using(rounds=cost)
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="passwords")
        # What the password of an unknown name is compared with, so that the answer takes as long.
        self._nobodys = self._scheme.hash("")

    async def hash(self, password: str) -> str:
        """The hash to store, with its salt, scheme and cost in it."""
        return await self._run(lambda: str(self._scheme.hash(_normalised(password))))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether `stored` is a hash of the password; false, after the same time, where there is none."""

        def run() -> bool:
            matches = bool(self._scheme.verify(_normalised(password), stored or self._nobodys))
            return matches and stored is not None

        return await self._run(run)

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _normalised(password: str) -> str:
    # The same characters typed on two keyboards may be composed or not (RFC 8265, section 4.2.2).
    return unicodedata.normalize("NFC", password)
