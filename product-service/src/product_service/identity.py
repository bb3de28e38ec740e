"""The client of the seam: asks the user service what an access token is worth, once for every protected request.

There are three outcomes and no fourth. The user service says who the caller is; it says that the token is not
valid (InvalidToken); or it did not say (AuthUnavailable): it refused, was slow, or answered anything but what
`contracts/` says. Nothing is inferred from an answer that was not given, and no answer is kept for another request.
"""

import asyncio
import time
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chassis import logs
from chassis.errors import InvalidToken
from chassis.middleware import REQUEST_ID_HEADER, current_request_id
from chassis.models import LARGEST_ID
from product_service.errors import AuthUnavailable

CONNECT_TIMEOUT = 0.5  # seconds
# The user service closes a connection that was idle for 75 seconds; we let go of it well before.
KEEP_ALIVE = 30  # seconds
LARGEST_ANSWER = 16 * 1024  # bytes
HEALTH_EVERY = 5  # seconds between two questions of /health to the user service
_HEALTH_TIMEOUT = 1.0  # seconds


@dataclass(frozen=True)
class Caller:
    """Who is asking, as the user service said at this moment."""

    user_id: int
    username: str
    roles: tuple[str, ...]

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles


class _Verdict(BaseModel):
    """Our own copy of the few fields that we read; whatever else the answer has is none of our business."""

    model_config = ConfigDict(strict=True)

    valid: bool


class _Valid(_Verdict):
    user_id: int = Field(ge=1, le=LARGEST_ID)
    username: str
    roles: list[str]


class IdentityClient:
    """One for each process: it keeps its connections to the user service open between requests."""

    def __init__(self, url: str, timeout: float, service_key: str | None = None) -> None:
        """
        :param url: of the user service
        :param timeout: seconds for one whole validation
        :param service_key: what the user service wants to see of a service that asks, if it does
        """
        self.url = url
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={
                # A compressed answer could be a thousand times as large as what is read of it.
                "Accept-Encoding": "identity",
                **({"X-Service-Key": service_key} if service_key else {}),
            },
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE),
            # Neither a proxy from the environment nor a redirect may get to see a token.
            trust_env=False,
            follow_redirects=False,
        )
        self._log = logs.get("product_service.identity")
        self._health_lock = asyncio.Lock()
        self._healthy = False
        self._health_asked = float("-inf")

    async def identify(self, token: str) -> Caller:
        """Whom the token stands for; raises InvalidToken or AuthUnavailable."""
        started = time.perf_counter()
        outcome = "unavailable"
        status: int | None = None
        try:
            # httpx's own timeouts are for each read; this one is for all of it.
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(
                    "POST", "/validate-token", json={"token": token}, headers=self._request_headers()
                ) as response,
            ):
                status = response.status_code
                caller = await self._read(response)
            outcome = "valid" if caller else "refused"
        except (httpx.HTTPError, TimeoutError, ValidationError) as error:
            # The error itself may hold parts of the answer, so that only its kind is logged.
            outcome = type(error).__name__
            raise AuthUnavailable from error
        finally:
            answered = outcome in ("valid", "refused")
            (self._log.info if answered else self._log.warning)(
                "called user-service",
                call="POST /validate-token",
                status=status,
                outcome=outcome,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )
        if caller is None:
            raise InvalidToken
        return caller

    async def answers(self) -> bool:
        """Whether the user service answers, asked at most every `HEALTH_EVERY` seconds."""
        async with self._health_lock:
            if time.monotonic() - self._health_asked >= HEALTH_EVERY:
                try:
                    async with asyncio.timeout(_HEALTH_TIMEOUT):
                        response = await self._http.get("/health/live", headers=self._request_headers())
                    self._healthy = response.status_code == httpx.codes.OK
                except (httpx.HTTPError, TimeoutError):
                    self._healthy = False
                self._health_asked = time.monotonic()
            return self._healthy

    async def close(self) -> None:
        await self._http.aclose()

    @staticmethod
    def _request_headers() -> dict[str, str]:
        request_id = current_request_id()
        return {REQUEST_ID_HEADER: request_id} if request_id else {}

    @staticmethod
    async def _read(response: httpx.Response) -> Caller | None:
        """Who the answer says is calling; None where it says that the token is not valid."""
        if response.status_code != httpx.codes.OK:
            raise httpx.HTTPStatusError("unexpected status", request=response.request, response=response)
        content = b""
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > LARGEST_ANSWER:
                raise httpx.DecodingError("the answer is too large", request=response.request)
        if not _Verdict.model_validate_json(content).valid:
            return None
        valid = _Valid.model_validate_json(content)
        return Caller(valid.user_id, valid.username, tuple(valid.roles))
