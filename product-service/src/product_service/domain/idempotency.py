"""Idempotency keys: a request that is repeated with the same key is executed once."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

MAX_KEY_LENGTH = 255
RETENTION = timedelta(hours=24)


@dataclass(frozen=True)
class IdempotentRequest:
    caller_id: int
    key: str
    operation: str
    """The action and the product it applies to. The same key can be used once per operation."""
    payload: str
    """Everything that affects the result, in canonical form."""

    @property
    def fingerprint(self) -> str:
        """Equal for two requests with the same payload."""
        return hashlib.sha256(self.payload.encode()).hexdigest()
