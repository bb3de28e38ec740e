"""Pure ASGI middleware, from the outside in:

`TrustedProxies`   only behind a reverse proxy: the client's address; see `chassis.http.proxies`
`RequestContext`   a request id, the trace, the log line, the id in the answer; outside CORS, so that a preflight has it
`Cors`             Starlette's own, but with problem responses
`CatchAll`         turns an unexpected exception into a 500; inside CORS, so that scripts can read it
`HeadAsGet`        supports HEAD on every GET operation
`BodyTimeout`      rejects a request whose body is too slow; see `chassis.http.limits`
"""

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar, Token
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import logs, metrics
from chassis.http import trace_context

REQUEST_ID_HEADER = "X-Request-ID"
HEALTH_PATH = "/health"

DURATION = metrics.Histogram(
    "http_server_request_duration_seconds", "Durations of requests.", method=(), route=(), status=()
)
ACTIVE = metrics.Gauge("http_server_active_requests", "Requests in progress.")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OTHER_METHOD = "_OTHER"  # Clients choose the method and the path: those that no route knows share one value.
NO_ROUTE = "none"

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

# Clients choose what they send as their origin, so what is kept and logged has a limit.
MAX_LOGGED_ORIGINS = 100
MAX_LOGGED_ORIGIN_LENGTH = 300

_context_headers: ContextVar[dict[str, str]] = ContextVar("context_headers")


def context_headers() -> dict[str, str]:
    """What tells another service which request a call is made for: its id, and its trace where it has one."""
    headers = dict(_context_headers.get({}))
    trace_context.write(headers)
    return headers


def quoted_path(scope: Scope) -> str:
    """The path of a request, percent-encoded and without the query."""
    return quote(scope["path"], safe="/:@!$&'()*+,;=~-._")


class RequestContext:
    def __init__(
        self,
        app: ASGIApp,
        hsts_seconds: int = 0,
        slow_seconds: float = 0,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        :param hsts_seconds: how long browsers must use HTTPS for this host; 0 for no such rule
        :param slow_seconds: the duration from which a request is logged as slow; 0 to log none
        :param is_draining: whether the service is about to stop, so that clients have to connect to another instance
        """
        self._app = app
        self._slow_seconds = slow_seconds
        self._is_draining = is_draining
        self._log = logs.get("chassis.requests")
        self._security_headers = [(b"x-content-type-options", b"nosniff")]
        if hsts_seconds:
            self._security_headers.append((b"strict-transport-security", b"max-age=%d" % hsts_seconds))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sent, own_id = headers.get(REQUEST_ID_HEADER, ""), uuid.uuid4().hex
        is_chosen = bool(_SANE_REQUEST_ID.fullmatch(sent))
        request_id = sent if is_chosen else own_id
        state = scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        # Public reads alone may be stored: other responses are for one caller, or have personal data or tokens.
        is_public = scope["method"] in ("GET", "HEAD", "OPTIONS") and "authorization" not in headers
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._security_headers]
                response_headers = MutableHeaders(scope=message)
                response_headers[REQUEST_ID_HEADER] = request_id
                if not is_public:
                    response_headers.setdefault("Cache-Control", "no-store")
                if self._is_draining():
                    response_headers["Connection"] = "close"
            await send(message)

        to_be_logged, to_be_sent_on = {"request_id": request_id}, {REQUEST_ID_HEADER: request_id}
        if is_chosen:
            to_be_logged[logs.SERVER_REQUEST_ID] = own_id  # Clients may choose the same id for several requests.
        if trace := trace_context.read(headers):
            trace_id, trace_headers = trace
            to_be_logged["trace_id"] = trace_id
            to_be_sent_on.update(trace_headers)
        sent_on = _context_headers.set(to_be_sent_on)
        tokens: dict[str, Token[object]] = dict(structlog.contextvars.bind_contextvars(**to_be_logged))
        started = time.perf_counter()
        ACTIVE.add(1)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            duration = round(seconds * 1000, 1)
            route = scope.get("route")
            ACTIVE.add(-1)
            DURATION.observe(
                seconds,
                scope["method"] if scope["method"] in _METHODS else OTHER_METHOD,
                NO_ROUTE if route is None else route.path_format,
                str(status),
            )
            if status >= 500:
                log = self._log.warning
            elif route is not None and route.path_format.startswith(HEALTH_PATH):
                log = self._log.debug  # Probes ask every few seconds.
            else:
                log = self._log.info
            log(
                logs.REQUEST,
                method=scope["method"],
                status=status,
                duration_ms=duration,
                user_id=state.get("user_id"),
                **({"asked_by": state["asked_by"]} if "asked_by" in state else {}),
                # JSON logs, which are collected and kept, have no path: it may contain private data.
                **{
                    logs.JSON_ONLY: {
                        "route": route.path_format if route is not None else None,
                        "ip": scope["client"][0] if scope.get("client") else None,
                    }
                },
                **{logs.CONSOLE_ONLY: {"path": quoted_path(scope), "code": state.get("code")}},
            )
            if self._slow_seconds and seconds >= self._slow_seconds:
                name = route.path_format if route is not None else None
                self._log.warning(
                    "slow request", method=scope["method"], route=name, status=status, duration_ms=duration
                )
            structlog.contextvars.reset_contextvars(**tokens)
            _context_headers.reset(sent_on)


def is_same_origin(headers: Headers) -> bool:
    """Whether the request comes from a page of this service.

    Compares only hosts: behind a proxy that terminates TLS, the service does not know its own scheme.
    """
    return headers.get("origin", "").partition("://")[2] == headers.get("host")


class Cors(CORSMiddleware):
    """Logs each refused origin once: in the browser, the developer of a frontend sees only a network error.

    :param allows_origin: whether scripts of an origin may call the service
    :param reject: makes the response to a rejected preflight from the request, the reason and the headers
    :param exempt: the beginning of paths that scripts never call, and that get preflights of other applications
    """

    def __init__(
        self,
        app: ASGIApp,
        /,
        allows_origin: Callable[[str], bool],
        reject: Callable[[Request, str, dict[str, str]], Response],
        exempt: str | None = None,
        **policy: Any,
    ) -> None:
        super().__init__(app, **policy)
        self._allows_origin = allows_origin
        self._reject = reject
        self._exempt = exempt
        self._refused: set[str] = set()
        self._log = logs.get("chassis.requests")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if self._exempt is not None and scope["path"].startswith(self._exempt):
                await self.app(scope, receive, send)
                return
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            # A page of this service needs no permission, but its browser sends the origin with each POST.
            if origin is not None and not is_same_origin(headers):
                self._log_refused(origin)
        await super().__call__(scope, receive, send)

    def is_allowed_origin(self, origin: str) -> bool:
        return self._allows_origin(origin)

    def _log_refused(self, origin: str) -> None:
        if origin in self._refused or len(self._refused) >= MAX_LOGGED_ORIGINS or self.is_allowed_origin(origin):
            return
        self._refused.add(origin)
        # Browsers send `null` for a page that was opened from a file.
        remedy = "serve the page over HTTP" if origin == "null" else "add it to ALLOWED_ORIGINS"
        self._log.warning(f"scripts of this origin are refused; {remedy}", origin=origin[:MAX_LOGGED_ORIGIN_LENGTH])

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        return response if response.status_code == HTTPStatus.OK else _RejectedPreflight(response, self._reject)


class _RejectedPreflight(Response):
    """Builds its content when it is sent: Starlette creates it without passing the request."""

    def __init__(self, rejection: Response, reject: Callable[[Request, str, dict[str, str]], Response]) -> None:
        super().__init__(status_code=rejection.status_code)
        self._rejection = rejection
        self._reject = reject

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        policy = {name: value for name, value in self._rejection.headers.items() if not name.startswith("content-")}
        response = self._reject(Request(scope), f"{bytes(self._rejection.body).decode()}.", policy)
        await response(scope, receive, send)


class CatchAll:
    """
    :param on_error: makes the response to an unexpected exception
    :param on_cancel: makes the response to a request that is cancelled because the service stops
    """

    def __init__(
        self, app: ASGIApp, on_error: Callable[[Request], Response], on_cancel: Callable[[Request], Response]
    ) -> None:
        self._app = app
        self._on_error = on_error
        self._on_cancel = on_cancel
        self._log = logs.get("chassis.requests")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except asyncio.CancelledError:
            # The server stops, and its grace period for this request is over. Re-raise after the response: the
            # cancellation is for its initiator, such as a timeout around the application.
            if scope["type"] == "http" and not started:
                await self._on_cancel(Request(scope))(scope, receive, send)
            raise
        except Exception:
            if scope["type"] != "http" or started:
                # The response has started: only closing the connection tells the client that it is incomplete.
                raise
            self._log.exception("unexpected exception")
            await self._on_error(Request(scope))(scope, receive, send)


def is_head(scope: Scope) -> bool:
    """Whether only the headers of the response are sent, so that an operation can save the work for the body.

    `HeadAsGet` shows a HEAD request to its operation as GET.
    """
    return "is_head" in scope


class HeadAsGet:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        # A copy, because the server reads the method from its own scope to omit the body.
        as_get = {**scope, "method": "GET", "is_head": True}
        try:
            await self._app(as_get, receive, send_without_body)
        finally:
            scope["route"] = as_get.get("route")
