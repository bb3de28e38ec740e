"""The client of the user service: validates the access token of every protected request.

A validation has three outcomes. The user service names the caller; it rejects the token (InvalidToken); or it does
neither (AuthUnavailable), because it can't be reached, is too slow, or sends a response outside the contract. Without a
response nothing is inferred, and no response is reused for another request.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Self

from auth_client.breaker import AttemptRefused, Breaker, State
from auth_client.caller import Caller
from auth_client.contract import UnexpectedResponse, read_caller
from auth_client.errors import AuthUnavailable
from auth_client.pool import CALL_ERRORS, ConnectionPool, disconnected_before_response, failure
from auth_client.settings import AuthClientSettings
from chassis import logs, metrics
from chassis.errors import InvalidToken
from chassis.http import trace_context
from chassis.http.middleware import REQUEST_ID_HEADER, context_headers

CALL_SLOTS = 20  # calls at the same time; further ones wait for a slot, until the queue timeout
FAILURES_TO_OPEN = 5  # consecutive
OPEN_FOR = 1.0  # seconds; a request may be rejected for that long although the user service is back
HEALTH_INTERVAL = 5  # seconds between two health checks of the user service
_HEALTH_TIMEOUT = 1.0  # seconds
_VALIDATION = "POST /validate-token"  # in logs and traces

DURATION = metrics.Histogram(
    "token_validation_duration_seconds",
    "Durations of token validations, with the wait for a call slot.",
    outcome=("valid", "refused", "unavailable", "cancelled"),
)
WAITING = metrics.Gauge("token_validation_waiting", "Token validations that wait for a call slot.")


class AuthClient:
    """Validates tokens. One per process: it reuses its connections, and its limits are those of the process.

    For the tasks of one event loop; not thread-safe.
    """

    def __init__(self, url: str, timeout: float, service_key: str | None = None) -> None:
        """
        :param url: of the user service
        :param timeout: seconds for one validation, including the wait for a call slot and a retry
        :param service_key: identifies this service to the user service, if that requires a key
        """
        self.url = url
        self.last_success: datetime | None = None
        """The time of the last validation with a result, whether the token was valid or not."""
        self._timeout = timeout
        # A call that starts has a quarter of the time left. Otherwise its failure would be caused by the queue.
        self._queue_timeout = timeout * 3 / 4
        self._pool = ConnectionPool(url, {"X-Service-Key": service_key} if service_key else {})
        self._validate_token = self._pool.address("/validate-token")
        self._live = self._pool.address("/health/live")
        self._call_slots = asyncio.Semaphore(CALL_SLOTS)
        self._breaker = Breaker(FAILURES_TO_OPEN, OPEN_FOR)
        self._log = logs.get("auth_client.client")
        self._health_lock = asyncio.Lock()
        self._reachable = False
        self._health_checked = float("-inf")

    @classmethod
    def from_settings(cls, settings: AuthClientSettings) -> Self:
        key = settings.service_key.get_secret_value() if settings.service_key else None
        return cls(settings.user_service_url, settings.validation_timeout, key)

    @property
    def breaker_state(self) -> State:
        return self._breaker.state

    async def validate(self, token: str) -> Caller:
        """Return the caller that the token belongs to; raises InvalidToken or AuthUnavailable."""
        started = time.perf_counter()
        outcome = "cancelled"
        try:
            caller = await self._validate(token)
            outcome = "valid"
        except InvalidToken:
            outcome = "refused"
            raise
        except AuthUnavailable:
            outcome = "unavailable"
            raise
        finally:
            DURATION.observe(time.perf_counter() - started, outcome)
        return caller

    async def _validate(self, token: str) -> Caller:
        started = asyncio.get_running_loop().time()
        try:
            # Checked before the wait as well, because calls that hang may hold all the call slots.
            self._breaker.check()
            async with self._call_slot(started + self._queue_timeout):
                with self._breaker.attempt(), trace_context.call_span(_VALIDATION):
                    caller = await self._call(token, started + self._timeout)
        except AttemptRefused as refusal:
            raise AuthUnavailable(timedelta(seconds=refusal.retry_in)) from None
        except AuthUnavailable:
            # Ask again: the last check may say that all is well.
            self._health_checked = float("-inf")
            raise
        self.last_success = datetime.now(UTC)
        # It proves as much as a health check does.
        self._reachable, self._health_checked = True, time.monotonic()
        if caller is None:
            raise InvalidToken
        return caller

    async def is_reachable(self) -> bool:
        """Whether the user service responds. It is asked at most every HEALTH_INTERVAL seconds."""
        async with self._health_lock:
            if time.monotonic() - self._health_checked >= HEALTH_INTERVAL:
                try:
                    async with (
                        asyncio.timeout(_HEALTH_TIMEOUT),
                        self._pool.request("GET", self._live, context_headers()) as response,
                    ):
                        reachable = response.status_code == HTTPStatus.OK
                except CALL_ERRORS:
                    reachable = False
                self._reachable, self._health_checked = reachable, time.monotonic()
            return self._reachable

    async def close(self) -> None:
        """Close all connections; to be awaited when the application shuts down."""
        await self._pool.close()

    @asynccontextmanager
    async def _call_slot(self, deadline: float) -> AsyncIterator[None]:
        WAITING.add(1)
        try:
            async with asyncio.timeout_at(deadline):
                await self._call_slots.acquire()
        except TimeoutError:
            self._log.warning("no call slot for user-service became free in time")
            raise AuthUnavailable from None
        finally:
            WAITING.add(-1)
        try:
            yield
        finally:
            self._call_slots.release()

    async def _call(self, token: str, deadline: float) -> Caller | None:
        """Call the user service, retry once on disconnect, and log the call; None if the token is rejected."""
        started = time.perf_counter()
        outcome = "interrupted"
        status: int | None = None
        tries = 1
        try:
            async with asyncio.timeout_at(deadline):
                try:
                    caller = await self._try(token)
                except CALL_ERRORS as error:
                    if not disconnected_before_response(error):
                        raise
                    # The server may have closed an idle connection just as it was used. A validation changes nothing,
                    # so it is safe to repeat. A new connection can't be stale.
                    tries = 2
                    caller = await self._try(token, new_connection=True)
            outcome, status = "valid" if caller else "refused", HTTPStatus.OK.value
        except UnexpectedResponse as error:
            outcome, status = error.reason, error.status
            if status == HTTPStatus.UNAUTHORIZED:
                self._log.error("user-service does not accept the SERVICE_KEY of this service, or it has none")
            raise AuthUnavailable from None
        except CALL_ERRORS as error:
            outcome = failure(error)
            if isinstance(error, TimeoutError):
                self._pool.distrust()
            raise AuthUnavailable from None
        finally:
            normal = outcome in ("valid", "refused", "interrupted")
            trace_context.set_outcome(
                {"validation.outcome": outcome, "validation.tries": tries}, error=None if normal else outcome
            )
            (self._log.info if normal else self._log.warning)(
                "called user-service",
                **{logs.JSON_ONLY: {"call": _VALIDATION}},
                status=status,
                outcome=outcome,
                tries=tries,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )
        return caller

    async def _try(self, token: str, *, new_connection: bool = False) -> Caller | None:
        headers = context_headers()
        async with self._pool.request(
            "POST", self._validate_token, headers, {"token": token}, new_connection=new_connection
        ) as response:
            return await read_caller(response, headers.get(REQUEST_ID_HEADER))
