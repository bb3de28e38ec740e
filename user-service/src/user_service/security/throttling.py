"""Throttling of logins, registrations and refreshes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis import rate_limits
from chassis.rate_limits import Counter, RateLimits
from user_service import audit
from user_service.errors import InvalidCredentials, PasswordsBusy, TooManyAttempts, WrongPassword
from user_service.security.networks import networks

_POLL_INTERVAL = 0.05
"""Seconds between two looks at attempts in flight, which may be those of another process."""

DELAY = 2.0
"""Seconds that an attempt is delayed, if many have failed for the account and it hasn't used the address."""
MAX_DELAYED = 100
"""Attempts that a process delays at a time; others get a 503 at once, so that they don't occupy requests."""
_SLOWED = rate_limits.parse("3/10minute")
"""Failures of such an account from each address that it hasn't used."""


class Attempt:
    """An attempt to prove the password of an account. The service completes it with what it finds out."""

    def __init__(self, ip: str | None, account: str, counters: list[Counter]) -> None:
        self.user_id: int | None = None
        """The account, for the audit log; None if it is unknown."""
        self.ip = ip
        self.account = account
        self.counters = counters
        self.is_slow = False


class Throttle:
    """The limits of one operation: per account and address, and per address.

    No limit per account alone rejects an attempt: an attacker could use it to lock out the owner.
    """

    def __init__(
        self,
        limits: RateLimits,
        operation: str,
        per_account: str,
        per_address: str,
        *,
        suspicious: str = rate_limits.OFF,
        queue_timeout: float = 0.0,
    ) -> None:
        """
        :param operation: the name of the operation; each one has its own counters
        :param per_account: limits per account and address, as `rate_limits.parse` accepts them
        :param per_address: limits per address, in the same form
        :param suspicious: failures per account, at all addresses, after which `slow_down` takes effect; the same form
        :param queue_timeout: seconds that `attempt` waits for attempts in flight
        """
        self._limits = limits
        self._operation = operation
        self._per_account = rate_limits.parse(per_account)
        self._per_address = rate_limits.parse(per_address)
        self._suspicious = rate_limits.parse(suspicious)
        self._queue_timeout = queue_timeout
        self._rejections = audit.Flood("attempts throttled", operation=operation)
        self._delayed = 0

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
    async def attempt(self, ip: str | None, account: str) -> AsyncIterator[Attempt]:
        """An attempt to prove a password, which counts if it ends with InvalidCredentials or WrongPassword.

        An attempt in flight occupies a place, so concurrent attempts gain nothing. If failures leave no place, it
        raises TooManyAttempts. If only attempts in flight do, it waits for them, then raises PasswordsBusy.
        A success resets the account's counters, but not those of the address: an attacker with an account could reset
        them at will.
        """
        of_address = self._of_address(ip)
        attempt = Attempt(ip, account, [*of_address, *self._of_account(ip, account)])
        await self._enter(attempt.counters, ip)
        try:
            yield attempt
        except (InvalidCredentials, WrongPassword):
            await self._limits.count_failure(attempt.counters)
            await self._count_for_account(attempt)
            raise
        else:
            await self._limits.reset([each for each in attempt.counters if each not in of_address])
        finally:
            await self._limits.leave(attempt.counters)

    async def slow_down(self, attempt: Attempt) -> None:
        """Delay an attempt from an address that its account hasn't used, if many have failed for the account.

        Such addresses also get fewer attempts each. The owner can always log in: at once where the account has been
        used before, and elsewhere after the delay, whatever others do. Raises TooManyAttempts or PasswordsBusy.
        """
        if attempt.is_slow or not await self._is_suspicious(attempt.account):
            return
        counters = _counters(_SLOWED, attempt.ip, f"{self._operation} slowed", attempt.account)
        await self._enter(counters, attempt.ip)
        attempt.counters += counters
        attempt.is_slow = True
        if self._delayed >= MAX_DELAYED:
            raise PasswordsBusy
        self._delayed += 1
        try:
            await asyncio.sleep(DELAY)
        finally:
            self._delayed -= 1

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

    async def _count_for_account(self, attempt: Attempt) -> None:
        for limit, key in self._at_all_addresses(attempt.account):
            if await self._limits.add((limit, key)) == limit.amount:
                # Only at this count: one line per period.
                audit.log(
                    "many passwords refused",
                    user_id=attempt.user_id,
                    ip=attempt.ip,
                    failures=limit.amount,
                    seconds=limit.get_expiry(),
                )

    async def _is_suspicious(self, account: str) -> bool:
        return any([await self._limits.is_used_up(each) for each in self._at_all_addresses(account)])

    def _at_all_addresses(self, account: str) -> list[Counter]:
        return [(limit, (f"{self._operation} anywhere", account)) for limit in self._suspicious]

    # Limits per address come before limits per account, and shorter periods before longer ones.
    def _of_address(self, ip: str | None) -> list[Counter]:
        return _counters(self._per_address, ip, self._operation)

    def _of_account(self, ip: str | None, account: str) -> list[Counter]:
        return _counters(self._per_account, ip, self._operation, account)


def _counters(limits: list[rate_limits.Limit], ip: str | None, operation: str, *account: str) -> list[Counter]:
    return [
        (rate_limits.multiplied(limit, factor), (operation, network, *account))
        for limit in limits
        for network, factor in networks(ip).items()
    ]
