"""Throttling of logins, registrations and refreshes."""

import ipaddress

from user_service.errors import TooManyAttempts
from user_service.security import rate_limits
from user_service.security.rate_limits import RateLimits


class Throttle:
    """The limits of one operation: per account and address, and per address.

    There is no limit per account alone: an attacker could use it to lock out the owner.
    """

    def __init__(self, limits: RateLimits, operation: str, per_account: str, per_address: str) -> None:
        """
        :param operation: the name of the operation; each one has its own counters
        :param per_account: limits per account and address, as `rate_limits.parse` accepts them
        :param per_address: limits per address, in the same form
        """
        self._limits = limits
        self._operation = operation
        self._per_account = rate_limits.parse(per_account)
        self._per_address = rate_limits.parse(per_address)

    async def count_attempt(self, ip: str | None, account: str | None = None) -> None:
        """Count an attempt; raises TooManyAttempts.

        :param account: any stable name for the account; None if it is unknown
        """
        network = _network(ip)
        address_key = (self._operation, network)
        account_key = (*address_key, account or "")
        counters: list[tuple[rate_limits.Limit, tuple[str, ...]]] = [(item, address_key) for item in self._per_address]
        counters += [(item, account_key) for item in self._per_account if account is not None]
        for item, key in counters:
            # An attempt that one limit rejects isn't counted by the next ones: retrying too soon for the limit per
            # minute must not use up the limit per hour.
            wait = await self._limits.hit(item, *key)
            if wait is not None:
                raise TooManyAttempts(wait)

    async def reset(self, ip: str | None, account: str) -> None:
        """Reset the account's counters after a successful attempt."""
        for item in self._per_account:
            await self._limits.reset(item, self._operation, _network(ip), account)


def _network(ip: str | None) -> str:
    """The address to count by: for IPv6 its /64 network, since one client usually has all of it."""
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return ip or ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address.packed[:8] + bytes(8), 64)))
    return str(address)
