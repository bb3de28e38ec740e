"""Idempotency keys: a request that is sent again with the same key is carried out once."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

LONGEST_KEY = 255
KEPT_FOR = timedelta(hours=24)


@dataclass(frozen=True)
class IdempotentRequest:
    """A request with a key: who sends it, and what it asks for."""

    caller_id: int
    key: str
    operation: str
    """What is done, and to which product; the same key may be used once for each."""
    content: str
    """All that makes a difference to what is done, in one form."""

    @property
    def fingerprint(self) -> str:
        """Tells whether another request with the same key asks for the same."""
        return hashlib.sha256(self.content.encode()).hexdigest()
