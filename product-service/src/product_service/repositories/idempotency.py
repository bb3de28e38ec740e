"""How the answers to requests with an Idempotency-Key are stored and found."""

from datetime import datetime
from typing import ClassVar

from psycopg2.errorcodes import LOCK_NOT_AVAILABLE
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from chassis.database.repository import BaseRepository
from chassis.errors import Conflict, DomainError
from product_service.errors import IdempotencyInProgress
from product_service.models import KeptAnswer


class _AlreadyKept(Conflict):
    """Another request had the key first. Nobody hears of it: its answer is found instead."""

    code = "already-kept"
    detail = "There is an answer for this key already."


class KeptAnswerRepository(BaseRepository[KeptAnswer]):
    model = KeptAnswer
    conflicts: ClassVar[dict[str, type[DomainError]]] = {
        "kept_answers.caller_id, kept_answers.key, kept_answers.method, kept_answers.path": _AlreadyKept
    }

    def claim(self, claim: KeptAnswer, expired: datetime) -> KeptAnswer | None:
        """Store the claim, and return None; or the answer that is kept for this key already.

        A twin that is being worked on is waited for. Raises IdempotencyInProgress if that takes too long.
        """
        same = (
            KeptAnswer.caller_id == claim.caller_id,
            KeptAnswer.key == claim.key,
            KeptAnswer.method == claim.method,
            KeptAnswer.path == claim.path,
        )
        try:
            self._session.execute(delete(KeptAnswer).where(*same, KeptAnswer.created_at <= expired))
            # Within a savepoint: what comes after a violated constraint is refused by PostgreSQL.
            with self._session.begin_nested():
                self.add(claim)
        except _AlreadyKept:
            kept = self._one(self.base().where(*same))
            if kept is None:
                # It has just been removed, for its time was over.
                raise IdempotencyInProgress from None
            return kept
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) == LOCK_NOT_AVAILABLE:
                raise IdempotencyInProgress from error
            raise
        return None

    def remove_expired(self, expired: datetime, limit: int) -> int:
        """Remove up to `limit` answers that are older than this moment; how many there were."""
        return self.remove_up_to(limit, KeptAnswer.created_at, expired)
