"""How the answers to requests with an Idempotency-Key are stored and found."""

from datetime import datetime
from typing import ClassVar

from psycopg2.errorcodes import LOCK_NOT_AVAILABLE
from sqlalchemy import delete, select
from sqlalchemy.exc import OperationalError

from chassis.errors import Conflict, DomainError
from chassis.repository import BaseRepository
from product_service.errors import IdempotencyInProgress
from product_service.models import KeptAnswer


class _AlreadyKept(Conflict):
    """Another request had the key first. Nobody hears of it: its answer is found instead."""

    code = "already-kept"
    detail = "There is an answer for this key already."


class KeptAnswerRepository(BaseRepository[KeptAnswer]):
    model = KeptAnswer
    conflicts: ClassVar[dict[str, type[DomainError]]] = {
        # As SQLite tells it, and by the name that PostgreSQL tells.
        ", ".join(f"kept_answers.{column}" for column in ("caller_id", "key", "method", "path")): _AlreadyKept,
        "kept_answers.caller_id_key_method_path": _AlreadyKept,
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
            return self._one(select(KeptAnswer).where(*same))
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) == LOCK_NOT_AVAILABLE:
                raise IdempotencyInProgress from error
            raise
        return None

    def remove_expired(self, expired: datetime, limit: int) -> int:
        """Remove up to `limit` answers that are older than this moment; how many there were."""
        old = select(KeptAnswer.id).where(KeptAnswer.created_at <= expired).order_by(KeptAnswer.created_at).limit(limit)
        # Another process that does the same takes others.
        old = old.with_for_update(skip_locked=True)
        return len(
            self._session.scalars(delete(KeptAnswer).where(KeptAnswer.id.in_(old)).returning(KeptAnswer.id)).all()
        )
