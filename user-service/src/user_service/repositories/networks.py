"""Repository for the networks that accounts have been used from."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from chassis.database.repository import BaseRepository
from user_service.models import KnownNetwork
from user_service.models.sessions import MAX_IP_LENGTH

MAX_NETWORKS = 50
"""Networks of an account; a phone often gets a new one."""
MAX_AGE = timedelta(days=90)
"""How long a network without a login is known, since addresses get other owners."""


class KnownNetworkRepository(BaseRepository[KnownNetwork]):
    model = KnownNetwork

    def of(self, user_id: int) -> Sequence[KnownNetwork]:
        """The networks of an account, the last used one first."""
        order = (KnownNetwork.last_login_at.desc(), KnownNetwork.id.desc())
        return self._session.scalars(self.base().where(KnownNetwork.user_id == user_id).order_by(*order)).all()

    def remember(self, user_id: int, network: str, now: datetime) -> None:
        """Record a login from this network. The caller has locked the account."""
        network = network[:MAX_IP_LENGTH]
        known = self._one(self.base().where(KnownNetwork.user_id == user_id, KnownNetwork.network == network))
        if known is not None:
            known.last_login_at = now
            return
        self.add(KnownNetwork(user_id=user_id, network=network, last_login_at=now))
        latest = (
            select(KnownNetwork.id)
            .where(KnownNetwork.user_id == user_id)
            .order_by(KnownNetwork.last_login_at.desc(), KnownNetwork.id.desc())
            .limit(MAX_NETWORKS)
        )
        self._session.execute(
            delete(KnownNetwork).where(KnownNetwork.user_id == user_id, KnownNetwork.id.not_in(latest))
        )

    def delete_expired(self, now: datetime, limit: int) -> int:
        """Forget up to `limit` networks that have not been used for MAX_AGE; returns how many were deleted."""
        return self.delete_up_to(limit, KnownNetwork.last_login_at, now - MAX_AGE)
