"""Database access for idempotency records."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from chassis.database.repository import BaseRepository
from chassis.database.sqlstates import SqlState, has_state
from chassis.errors import Conflict, DomainError
from product_service.domain.idempotency import IdempotentRequest
from product_service.errors import IdempotencyInProgress
from product_service.models import IdempotencyRecord


class _AlreadyClaimed(Conflict):
    """Another request used the key first. Clients never see this error: `claim` returns that request's record."""

    code = "already-claimed"
    detail = "This key is already in use."


class IdempotencyRepository(BaseRepository[IdempotencyRecord]):
    model = IdempotencyRecord
    conflicts: ClassVar[dict[str, type[DomainError]]] = {
        "idempotency_records.caller_id, idempotency_records.key, idempotency_records.operation": _AlreadyClaimed
    }

    def claim(
        self, request: IdempotentRequest, now: datetime, expired: datetime
    ) -> tuple[IdempotencyRecord, IdempotencyRecord | None]:
        """Insert a record without a body for this request, unless an unexpired one exists.

        Returns the new record, and the existing one if there is one. Waits for another transaction that uses the same
        key; raises IdempotencyInProgress if it does not finish in time.

        :param expired: records created at or before this time have expired
        """
        same_key = (
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
            self._session.execute(delete(IdempotencyRecord).where(*same_key, IdempotencyRecord.created_at <= expired))
            # In a savepoint: after a constraint violation, PostgreSQL rejects further statements of a transaction.
            with self._session.begin_nested():
                self.add(record)
        except _AlreadyClaimed:
            earlier = self._one(self.base().where(*same_key))
            if earlier is None:
                # It has just expired and been deleted.
                raise IdempotencyInProgress from None
            return record, earlier
        except OperationalError as error:
            if has_state(error.orig, SqlState.LOCK_NOT_AVAILABLE):
                raise IdempotencyInProgress from error
            raise
        return record, None

    def delete_expired(self, expired: datetime, limit: int) -> int:
        """Delete up to `limit` records created at or before this time. Returns the number deleted."""
        return self.delete_up_to(limit, IdempotencyRecord.created_at, expired)
