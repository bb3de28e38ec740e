"""Requests that may be sent again: the same key gets the same answer, and the work is done once.

The answer is stored in the same transaction as the work, so that there is never one without the other: a client that
got no answer, because the connection or the service was lost after the commit, sends the request again and gets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chassis.use_cases import Service, writes
from product_service.domain.idempotency import KEPT_FOR, IdempotentRequest
from product_service.errors import IdempotencyKeyReused
from product_service.schemas import ProductRead

if TYPE_CHECKING:
    from product_service.models import IdempotencyRecord, Product
    from product_service.repositories import Repositories


@dataclass(frozen=True)
class Replay:
    """The answer that an earlier request with the same key got, word for word."""

    body: str


class Claim:
    """The key of a request that is carried out now; where a request has no key, nothing is stored."""

    def __init__(self, record: IdempotencyRecord | None) -> None:
        self._record = record

    def store(self, product: Product) -> None:
        """Store the answer for a client that sends the request again."""
        if self._record is not None:
            self._record.body = ProductRead.of(product).model_dump_json()


def claim(repos: Repositories, request: IdempotentRequest | None) -> Claim | Replay:
    """Claim the key of a request, or find the answer of the request that had it before.

    Only a success is stored: what the work raises rolls the claim back as well. Raises IdempotencyKeyReused for another
    request with the same key, or IdempotencyInProgress.
    """
    if request is None:
        return Claim(None)
    now = datetime.now(UTC)
    record, earlier = repos.idempotency.claim(request, now, now - KEPT_FOR)
    if earlier is None:
        return Claim(record)
    if earlier.fingerprint != request.fingerprint:
        raise IdempotencyKeyReused
    return Replay(earlier.body)


class IdempotencyRecords(Service["Repositories"]):
    @writes
    def purge(self, repos: Repositories, limit: int) -> int:
        """Delete up to `limit` records that have expired; how many there were."""
        return repos.idempotency.delete_expired(datetime.now(UTC) - KEPT_FOR, limit)
