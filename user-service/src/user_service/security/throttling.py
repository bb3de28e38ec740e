"""How often somebody may try: to log in, to open an account, to refresh a session."""

import ipaddress

from user_service.errors import TooManyAttempts
from user_service.security import rate_limits
from user_service.security.rate_limits import RateLimits


class Throttle:
    """The limits of one kind of call: for one account from one address, and for one address whatever the account.

    There is none for an account by itself, which a stranger could use up to keep its owner out.
    """

    def __init__(self, counts: RateLimits, call: str, per_account: str, per_address: str) -> None:
        """
        :param call: what is limited; the same account and address have another count for another call
        :param per_account: as `rate_limits.parse` reads it, and `per_address` too
        """
        self._counts = counts
        self._call = call
        self._per_account = rate_limits.parse(per_account)
        self._per_address = rate_limits.parse(per_address)

    async def admit(self, ip: str | None, account: str | None = None) -> None:
        """Count one more try; raises TooManyAttempts.

        :param account: whose it is, by whatever name the call knows it; None where that cannot be told
        """
        network = _network(ip)
        of_address = (self._call, network)
        of_account = (*of_address, account or "")
        counts: list[tuple[rate_limits.Limit, tuple[str, ...]]] = [(item, of_address) for item in self._per_address]
        counts += [(item, of_account) for item in self._per_account if account is not None]
        for item, key in counts:
            # What is refused by one limit does not count for those behind it: who tries again too soon for the limit
            # of a minute must not use up that of an hour.
            wait = await self._counts.hit(item, *key)
            if wait is not None:
                raise TooManyAttempts(wait)

    async def forget(self, ip: str | None, account: str) -> None:
        """Who got in may try as often again as if for the first time."""
        for item in self._per_account:
            await self._counts.forget(item, self._call, _network(ip), account)


def _network(ip: str | None) -> str:
    """Whom an address stands for: one who has IPv6 has 2**64 addresses to try from."""
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return ip or ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address.packed[:8] + bytes(8), 64)))
    return str(address)
