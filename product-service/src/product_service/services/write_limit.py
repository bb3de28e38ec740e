"""How often an account may write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chassis import rate_limits
from product_service.errors import TooManyWrites

if TYPE_CHECKING:
    from auth_client.caller import Caller
    from chassis.rate_limits import RateLimits


class WriteLimit:
    def __init__(self, limits: RateLimits, per_account: str) -> None:
        """:param per_account: limits as `rate_limits.parse` accepts them"""
        self._limits = limits
        self._per_account = rate_limits.parse(per_account)

    async def count(self, caller: Caller) -> None:
        """Count a request that writes, whether it succeeds or not; raises TooManyWrites. Admins have no limit."""
        if caller.is_admin:
            return
        wait = await self._limits.hit([(item, ("write", str(caller.user_id))) for item in self._per_account])
        if wait is not None:
            raise TooManyWrites(wait)
