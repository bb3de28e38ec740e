"""Requests that may be sent again: the same key gets the same answer, and the work is done once.

The answer is kept in the same transaction as the work, so that there is never one without the other: a client that
heard nothing, because the connection or the service was lost after the commit, sends the request again and hears what
it would have heard.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from product_service.errors import IdempotencyKeyReused
from product_service.models import KeptAnswer
from product_service.repositories.idempotency import KeptAnswerRepository

KEPT_FOR = timedelta(hours=24)


@dataclass(frozen=True)
class KeyedRequest:
    """A request with a key; who sends it, and what it asks for."""

    caller_id: int
    key: str
    method: str
    path: str
    content: str
    """All that makes a difference to what is done, in one form."""


@dataclass(frozen=True)
class Answer:
    """What is answered to a request."""

    status: int
    headers: dict[str, str]
    body: str


class Idempotency:
    """On the session of one transaction."""

    def __init__(self, answers: KeptAnswerRepository) -> None:
        self._answers = answers

    def once(self, request: KeyedRequest, work: Callable[[], Answer]) -> tuple[Answer, bool]:
        """Do the work and keep its answer, or find the one that is kept; and whether it was found.

        Only a success is kept: what `work` raises rolls the claim back as well. Raises IdempotencyKeyReused for
        another request with the same key, or IdempotencyInProgress.
        """
        now = datetime.now(UTC)
        request_hash = hashlib.sha256(request.content.encode()).hexdigest()
        claim = KeptAnswer(
            caller_id=request.caller_id,
            key=request.key,
            method=request.method,
            path=request.path,
            request_hash=request_hash,
            created_at=now,
            status=0,
            headers={},
            body="",
        )
        kept = self._answers.claim(claim, now - KEPT_FOR)
        if kept is None:
            answer = work()
            claim.status, claim.headers, claim.body = answer.status, answer.headers, answer.body
            return answer, False
        if kept.request_hash != request_hash:
            raise IdempotencyKeyReused
        return Answer(kept.status, kept.headers, kept.body), True

    def remove_expired(self, limit: int) -> int:
        """Remove up to so many answers that are kept no longer; how many there were."""
        return self._answers.remove_expired(datetime.now(UTC) - KEPT_FOR, limit)
