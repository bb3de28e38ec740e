"""The client of the seam: asks the user service what an access token is worth, once for every protected request.

There are three outcomes and no fourth. The user service says who the caller is; it says that the token is not
valid (InvalidToken); or it did not say (AuthUnavailable): it refused, was slow, or answered anything but what
`contracts/` says. Nothing is inferred from an answer that was not given, and no answer is kept for another request.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from weakref import WeakSet

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from httpx_aiohttp import AiohttpTransport
from pydantic import BaseModel, ConfigDict, Field

from auth_client.breaker import AttemptRefused, Breaker, State
from auth_client.caller import Caller
from auth_client.errors import AuthUnavailable
from chassis import logs
from chassis.errors import InvalidToken
from chassis.http.bodies import JSON
from chassis.http.middleware import REQUEST_ID_HEADER, context_headers
from chassis.ids import LARGEST_ID

CONNECT_TIMEOUT = 0.5  # seconds, with the lookup of the name; the wait for a turn is no part of it
_CONNECT_STEPS = 10
# The user service closes a connection that was idle for 75 seconds; we let go of it well before.
KEEP_ALIVE = 30  # seconds
NAME_LOOKUP_KEPT = 1  # seconds, so that a user service that has moved to another address is soon found there
MOST_CALLS = 20  # at once; who comes then waits for a turn, within the deadline
LARGEST_ANSWER = 16 * 1024  # bytes
FAILURES_TO_OPEN = 5  # in a row
OPEN_FOR = 1.0  # seconds; one may be refused for that long although the user service is back
HEALTH_EVERY = 5  # seconds between two questions of /health to the user service
_HEALTH_TIMEOUT = 1.0  # seconds


class _Verdict(BaseModel):
    """Our own copy of the few fields that we read; whatever else the answer has is none of our business."""

    model_config = ConfigDict(strict=True)

    valid: bool


class _Valid(_Verdict):
    user_id: int = Field(ge=1, le=LARGEST_ID)
    username: str = Field(min_length=1)
    roles: list[str]


class _Refused(_Verdict):
    """Names nobody: an answer that refuses the token and says whose it is contradicts itself."""

    user_id: None = None
    username: None = None
    roles: None = None


class _NotTheContract(Exception):
    """An answer that `contracts/` does not know; `reason` holds nothing of it."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


# What aiohttp's transport does not translate into an error of httpx comes as it is, and what an odd answer makes of the
# two is not always an error of theirs: an address to go on to that is none, a reason that is not UTF-8.
_NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError)


class _Connector(aiohttp.TCPConnector):
    """A pool that does not take what came unasked on a connection for the answer to the next request on it.

    Nor does it hand out connections that it had before it was told to distrust them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._trusted: WeakSet[ResponseHandler] = WeakSet()

    def distrust(self) -> None:
        """Use none of the present connections again: where one stays silent for ever, the others may as well."""
        self._trusted.clear()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        if protocol is None or protocol.should_close or protocol not in self._trusted:
            connection.close()
            # As good as one that the server has closed, and treated like it.
            raise aiohttp.ServerDisconnectedError
        return connection

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        """Raises ConnectionTimeoutError after CONNECT_TIMEOUT.

        That is waited for in small steps. A process that stood still for a while, on a machine that is too busy, finds
        one step gone when it goes on, and looks at the connection again; a single timer would be over.
        """
        connecting = asyncio.create_task(super()._create_connection(req, traces, timeout))
        try:
            for _ in range(_CONNECT_STEPS):
                done, _pending = await asyncio.wait({connecting}, timeout=CONNECT_TIMEOUT / _CONNECT_STEPS)
                if done:
                    protocol = connecting.result()
                    self._trusted.add(protocol)
                    return protocol
            raise aiohttp.ConnectionTimeoutError
        finally:
            connecting.cancel()


class AuthClient:
    """One for each process: it keeps its connections to the user service open between requests."""

    def __init__(self, url: str, timeout: float, service_key: str | None = None) -> None:
        """
        :param url: of the user service
        :param timeout: seconds for one whole validation, with the wait for a turn and a second try
        :param service_key: what the user service wants to see of a service that asks, if it does
        """
        self.url = url
        # Parsed once: to do it for each call would be a tenth of what it costs.
        self._validate_token = httpx.URL(f"{url}/validate-token")
        self._live = httpx.URL(f"{url}/health/live")
        self.last_success: datetime | None = None
        """When a validation was last answered, whatever the answer was."""
        self._timeout = timeout
        self._service_key = service_key
        # SSL_CERT_FILE and SSL_CERT_DIR may name a certificate authority of the operator's own.
        self._tls = httpx.create_ssl_context()
        self._pool: _Connector | None = None
        self._pooled = self._client(keep_alive=True)
        self._fresh = self._client(keep_alive=False)
        self._turns = asyncio.Semaphore(MOST_CALLS)
        self._breaker = Breaker(FAILURES_TO_OPEN, OPEN_FOR)
        self._log = logs.get("product_service.identity")
        self._health_lock = asyncio.Lock()
        self._healthy = False
        self._health_asked = float("-inf")

    @classmethod
    def from_settings(cls, settings: Any) -> "AuthClient":
        key = settings.service_key.get_secret_value() if settings.service_key else None
        return cls(settings.user_service_url, settings.validation_timeout, key)

    @property
    def breaker_state(self) -> State:
        return self._breaker.state

    async def validate(self, token: str) -> Caller:
        """Whom the token stands for; raises InvalidToken or AuthUnavailable."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            # Looked at before the wait as well, because the turns may all be taken by calls that hang.
            self._breaker.check()
            async with self._turn(deadline):
                with self._breaker.attempt():
                    caller = await self._validate(token, deadline)
        except AttemptRefused as refusal:
            raise AuthUnavailable(timedelta(seconds=refusal.retry_in)) from None
        self.last_success = datetime.now(UTC)
        # As good a sign of life as the one that `answers` asks for.
        self._healthy, self._health_asked = True, time.monotonic()
        if caller is None:
            raise InvalidToken
        return caller

    async def is_reachable(self) -> bool:
        """Whether the user service answers, asked at most every `HEALTH_EVERY` seconds."""
        async with self._health_lock:
            if time.monotonic() - self._health_asked >= HEALTH_EVERY:
                try:
                    async with (
                        asyncio.timeout(_HEALTH_TIMEOUT),
                        self._pooled.stream("GET", self._live, headers=context_headers()) as response,
                    ):
                        healthy = response.status_code == httpx.codes.OK
                except _NO_ANSWER:
                    healthy = False
                self._healthy, self._health_asked = healthy, time.monotonic()
            return self._healthy

    async def close(self) -> None:
        await self._pooled.aclose()
        await self._fresh.aclose()

    def _client(self, *, keep_alive: bool) -> httpx.AsyncClient:
        def session() -> aiohttp.ClientSession:  # Made by the transport at its first use, when there is an event loop.
            connector = _Connector(
                # How many there may be at once is decided by the turns: waiting here would count as connecting.
                limit=0,
                ssl=self._tls,
                ttl_dns_cache=NAME_LOOKUP_KEPT,
                **({"keepalive_timeout": KEEP_ALIVE} if keep_alive else {"force_close": True}),
            )
            if keep_alive:
                self._pool = connector
            return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

        return httpx.AsyncClient(
            transport=AiohttpTransport(verify=self._tls, client=session),
            headers={
                # A compressed answer could be a thousand times as large as what is read of it.
                "Accept-Encoding": "identity",
                **({"X-Service-Key": self._service_key} if self._service_key else {}),
            },
            # The deadline is for all of it; httpx's own timeouts are for each read.
            timeout=None,  # noqa: S113 - see above.
            # Neither a proxy from the environment nor a redirect may get to see a token, and no cookie is kept.
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    @asynccontextmanager
    async def _turn(self, deadline: float) -> AsyncIterator[None]:
        try:
            # A call that begins has some time left: otherwise its failure would be that of the queue.
            async with asyncio.timeout_at(deadline - self._timeout / 4):
                await self._turns.acquire()
        except TimeoutError:
            self._log.warning("no turn to call user-service came in time")
            raise AuthUnavailable from None
        try:
            yield
        finally:
            self._turns.release()

    async def _validate(self, token: str, deadline: float) -> Caller | None:
        """One call, in the log, with a second try where that may help; None where the token is not valid."""
        started = time.perf_counter()
        outcome = "broken off"
        status: int | None = None
        tries = 1
        try:
            async with asyncio.timeout_at(deadline):
                try:
                    caller = await self._ask(self._pooled, token)
                except httpx.HTTPError as error:
                    if not _ended_before_an_answer(error):
                        raise
                    # The server may have closed a connection that was idle just as we used it. To ask changes nothing,
                    # so that it is safe to ask again, on a connection that is new for certain.
                    tries = 2
                    caller = await self._ask(self._fresh, token)
            outcome, status = "valid" if caller else "refused", 200
        except _NotTheContract as error:
            outcome, status = error.reason, error.status
            if status == httpx.codes.UNAUTHORIZED:
                self._log.error("user-service does not accept the SERVICE_KEY of this service, or it has none")
            raise AuthUnavailable from None
        except _NO_ANSWER as error:
            # The error itself may hold parts of the answer, so that only its kind is logged.
            outcome = type(error.__cause__ or error).__name__
            if isinstance(error, TimeoutError) and self._pool:
                self._pool.distrust()
            raise AuthUnavailable from None
        finally:
            answered = outcome in ("valid", "refused")
            (self._log.info if answered or outcome == "broken off" else self._log.warning)(
                "called user-service",
                call="POST /validate-token",
                status=status,
                outcome=outcome,
                tries=tries,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )
        return caller

    async def _ask(self, client: httpx.AsyncClient, token: str) -> Caller | None:
        headers = context_headers()
        async with client.stream("POST", self._validate_token, json={"token": token}, headers=headers) as response:
            status = response.status_code
            if status != httpx.codes.OK:
                raise _NotTheContract("unexpected status", status)
            asked, answered = headers.get(REQUEST_ID_HEADER), response.headers.get(REQUEST_ID_HEADER)
            if asked and answered and asked != answered:
                raise _NotTheContract("answer to another request", status)
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise _NotTheContract("unexpected encoding", status)
            if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() != JSON:
                raise _NotTheContract("unexpected content type", status)
            content = b""
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > LARGEST_ANSWER:
                    raise _NotTheContract("too large", status)
        try:
            # Decoded here: left to itself, it would take UTF-16 as well.
            answer = json.loads(content.decode(), object_pairs_hook=_without_repetition)
            if not _Verdict.model_validate(answer).valid:
                _Refused.model_validate(answer)
                return None
            valid = _Valid.model_validate(answer)
        except (ValueError, RecursionError):
            raise _NotTheContract("unexpected content", status) from None
        return Caller(valid.user_id, valid.username, tuple(valid.roles))


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    decoded = dict(pairs)
    if len(decoded) != len(pairs):
        raise ValueError("the same key twice")
    return decoded


def _ended_before_an_answer(error: httpx.HTTPError) -> bool:
    """Whether there was a connection, and it ended before any of an answer had come."""
    cause = error.__cause__
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return isinstance(cause.message, str)  # Otherwise it is the part of an answer that had come.
    # The class of those that could not be made is below that of those that were reset.
    ended = isinstance(cause, aiohttp.ClientOSError | aiohttp.ClientConnectionResetError)
    return ended and not isinstance(cause, aiohttp.ClientConnectorError)
