"""Throttling of logins, registrations and refreshes."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis import rate_limits
from chassis.rate_limits import Counter, RateLimits
from user_service import audit
from user_service.errors import InvalidCredentials, PasswordsBusy, TooManyAttempts, WrongPassword

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215
_POLL_INTERVAL = 0.05
"""Seconds between two looks at attempts in flight, which may be those of another process."""


class Throttle:
    """The limits of one operation: per account and address, and per address.

    There is no limit per account alone: an attacker could use it to lock out the owner.
    """

    def __init__(
        self, limits: RateLimits, operation: str, per_account: str, per_address: str, queue_timeout: float = 0.0
    ) -> None:
        """
        :param operation: the name of the operation; each one has its own counters
        :param per_account: limits per account and address, as `rate_limits.parse` accepts them
        :param per_address: limits per address, in the same form
        :param queue_timeout: seconds that `attempt` waits for attempts in flight
        """
        self._limits = limits
        self._operation = operation
        self._per_account = rate_limits.parse(per_account)
        self._per_address = rate_limits.parse(per_address)
        self._queue_timeout = queue_timeout
        self._rejections = audit.Flood("attempts throttled", operation=operation)

    async def count(self, ip: str | None, account: str | None = None) -> None:
        """Count a call, whether it succeeds or not; raises TooManyAttempts.

        :param account: any stable name for the account; None if it is unknown
        """
        of_account = self._of_account(ip, account) if account is not None else []
        wait = await self._limits.hit([*self._of_address(ip), *of_account])
        if wait is not None:
            self._rejections.log(ip)
            raise TooManyAttempts(wait)

    @asynccontextmanager
    async def attempt(self, ip: str | None, account: str) -> AsyncIterator[None]:
        """An attempt to prove a password, which counts if it ends with InvalidCredentials or WrongPassword.

        An attempt in flight occupies a place, so concurrent attempts gain nothing. If failures leave no place, it
        raises TooManyAttempts. If only attempts in flight do, it waits for them, then raises PasswordsBusy.
        A success resets the account's counters, but not those of the address: an attacker with an account could reset
        them at will.
        """
        of_account = self._of_account(ip, account)
        counters = [*self._of_address(ip), *of_account]
        await self._enter(counters, ip)
        try:
            yield
        except (InvalidCredentials, WrongPassword):
            await self._limits.count_failure(counters)
            raise
        else:
            await self._limits.reset(of_account)
        finally:
            await self._limits.leave(counters)

    async def _enter(self, counters: list[Counter], ip: str | None) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._queue_timeout
        while (wait := await self._limits.enter(counters)) is not None:
            if wait:
                self._rejections.log(ip)
                raise TooManyAttempts(wait)
            if clock() >= deadline:
                raise PasswordsBusy
            await asyncio.sleep(_POLL_INTERVAL)

    # Limits per address come before limits per account, and shorter periods before longer ones.
    def _of_address(self, ip: str | None) -> list[Counter]:
        return [(item, (self._operation, _network(ip))) for item in self._per_address]

    def _of_account(self, ip: str | None, account: str) -> list[Counter]:
        return [(item, (self._operation, _network(ip), account)) for item in self._per_account]


def _network(ip: str | None) -> str:
    """The address to count by: for IPv6 its /64 network, since one client usually has all of it.

    Where a translator or tunnel has put the client's IPv4 address into an IPv6 address, it is the IPv4 address.
    """
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return ip or ""
    if isinstance(address, ipaddress.IPv6Address):
        ipv4 = _embedded_ipv4(address)
        if ipv4 is not None:
            return str(ipv4)
        if address in _LOCAL_NAT64:
            # Where in it the IPv4 address is depends on the network, but each client has one address.
            return str(address)
        return str(ipaddress.ip_network((address.packed[:8] + bytes(8), 64)))
    return str(address)


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
