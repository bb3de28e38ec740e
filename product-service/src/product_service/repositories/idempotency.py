"""How idempotency keys, and the answers to their requests, are stored and found."""

from datetime import datetime
from typing import ClassVar

from psycopg2.errorcodes import LOCK_NOT_AVAILABLE
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from chassis.database.repository import BaseRepository
from chassis.errors import Conflict, DomainError
from product_service.domain.idempotency import IdempotentRequest
from product_service.errors import IdempotencyInProgress
from product_service.models import IdempotencyRecord


class _AlreadyClaimed(Conflict):
    """Another request used the key first. No client sees this error: the answer of that request is found instead."""

    code = "already-claimed"
    detail = "There is an answer for this key already."


class IdempotencyRepository(BaseRepository[IdempotencyRecord]):
    model = IdempotencyRecord
    conflicts: ClassVar[dict[str, type[DomainError]]] = {
        "idempotency_records.caller_id, idempotency_records.key, idempotency_records.operation": _AlreadyClaimed
    }

    def claim(
        self, request: IdempotentRequest, now: datetime, expired: datetime
    ) -> tuple[IdempotencyRecord, IdempotencyRecord | None]:
        """Store a record without a body for this request, unless there is one that has not expired.

        The record of the request, and the earlier one if there is one. Waits for another transaction that works on the
        same key. Raises IdempotencyInProgress if that takes too long.
        """
        same = (
            IdempotencyRecord.caller_id == request.caller_id,
            IdempotencyRecord.key == request.key,
            IdempotencyRecord.operation == request.operation,
        )
        record = IdempotencyRecord(
            caller_id=request.caller_id,
            key=request.key,
            operation=request.operation,
            fingerprint=request.fingerprint,
            created_at=now,
            body="",
        )
        try:
            self._session.execute(delete(IdempotencyRecord).where(*same, IdempotencyRecord.created_at <= expired))
            # Within a savepoint: after a violated constraint, PostgreSQL refuses all else.
            with self._session.begin_nested():
                self.add(record)
        except _AlreadyClaimed:
            earlier = self._one(self.base().where(*same))
            if earlier is None:
                # It has just expired, and was deleted.
                raise IdempotencyInProgress from None
            return record, earlier
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) == LOCK_NOT_AVAILABLE:
                raise IdempotencyInProgress from error
            raise
        return record, None

    def delete_expired(self, expired: datetime, limit: int) -> int:
        """Delete up to `limit` records that are older than this moment; how many there were."""
        return self.delete_up_to(limit, IdempotencyRecord.created_at, expired)
