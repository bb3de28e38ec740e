"""Idempotency: a request repeated with the same key is executed once and gets the same response.

The response is stored in the transaction that does the work, so neither exists without the other. A client that
received no response, because the connection or the service failed after the commit, repeats the request and gets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chassis.use_cases import Service, writes
from product_service.domain.idempotency import RETENTION, IdempotentRequest
from product_service.errors import IdempotencyKeyReused
from product_service.schemas import ProductRead

if TYPE_CHECKING:
    from product_service.models import IdempotencyRecord, Product
    from product_service.repositories import Repositories


@dataclass(frozen=True)
class Replay:
    """The response to an earlier request with the same key, byte for byte."""

    body: str


class Claim:
    """The claimed key of the current request. Without a key, nothing is stored."""

    def __init__(self, record: IdempotencyRecord | None) -> None:
        self._record = record

    def store(self, product: Product) -> None:
        """Store the response for repeated requests."""
        if self._record is not None:
            self._record.body = ProductRead.of(product).model_dump_json()


def claim(repos: Repositories, request: IdempotentRequest | None) -> Claim | Replay:
    """Claim the key of a request, or return the response to an earlier request with the same key.

    Only successful responses are stored: an error rolls back the claim too. Raises IdempotencyKeyReused if the earlier
    request was different, or IdempotencyInProgress.
    """
    if request is None:
        return Claim(None)
    now = datetime.now(UTC)
    record, earlier = repos.idempotency.claim(request, now, now - RETENTION)
    if earlier is None:
        return Claim(record)
    # Records of a version that took the fingerprint of other data have none.
    if earlier.fingerprint and earlier.fingerprint != request.fingerprint:
        raise IdempotencyKeyReused
    return Replay(earlier.body)


class IdempotencyRecords(Service["Repositories"]):
    @writes
    def purge(self, repos: Repositories, limit: int) -> int:
        """Delete up to `limit` expired records. Returns the number deleted."""
        return repos.idempotency.delete_expired(datetime.now(UTC) - RETENTION, limit)
