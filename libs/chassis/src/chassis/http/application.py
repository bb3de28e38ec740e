"""Builds the FastAPI application of a service; `create_app` of each service calls `build`."""

from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware import Middleware

from chassis.http import openapi, pages, problems
from chassis.http.bearer import Authenticate, no_authentication
from chassis.http.limits import BodyTimeout
from chassis.http.middleware import HEALTH_PATH, CatchAll, Cors, HeadAsGet, RequestContext
from chassis.http.proxies import TrustedProxies
from chassis.http.routing import Router
from chassis.settings import ServiceSettings

EXPOSED_HEADERS = [
    "Content-Disposition",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
    "X-Total-Count",
]
"""Response headers that scripts of other origins may read."""

ALLOWED_HEADERS = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "X-Request-ID",
    "X-Requested-With",
    "traceparent",
    "tracestate",
]
"""Request headers that scripts of other origins may send."""


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Application(FastAPI):
    """A FastAPI application whose OpenAPI document is completed by `chassis.http.openapi`."""

    max_body_bytes: int
    max_concurrent_requests: int
    """Of each operation; see `chassis.http.limits`."""
    authenticate: Authenticate
    """Called by every operation that needs a caller; see `chassis.http.bearer`."""
    login_origin: str | None = None

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = openapi.complete(super().openapi(), self.login_origin)
        return self.openapi_schema


def build(
    settings: ServiceSettings,
    *,
    title: str,
    version: str,
    description: str,
    lifespan: Lifespan,
    routers: Sequence[Router],
    tags: dict[str, str] | None = None,
    authenticate: Authenticate = no_authentication,
    login_origin: str | None = None,
    allow_credentials: bool = False,
    is_draining: Callable[[], bool] = lambda: False,
    without_cors: str | None = None,
) -> Application:
    """Assemble middleware, error handlers, documentation pages and routers.

    :param tags: the descriptions of the routers' tags, by name, in the order of the documentation pages
    :param authenticate: identifies the caller by the token; raises InvalidToken, or another error if it can't
    :param login_origin: the origin that issues tokens to the documentation page, if it is another service
    :param allow_credentials: whether scripts of allowed origins may send and receive cookies
    :param is_draining: whether the service is about to stop; then each response closes its connection
    :param without_cors: the beginning of paths that scripts never call; see `Cors`
    """
    documented = settings.documentation == "on"
    is_traced = bool(settings.otel_exporter_otlp_endpoint)
    site = pages.router(
        title=title, version=version, description=description, login_origin=login_origin, documented=documented
    )
    app = Application(
        title=title,
        version=version,
        description=description,
        openapi_tags=[{"name": name, "description": text} for name, text in (tags or {}).items()],
        contact={"name": "Twinlatch"},
        license_info={"name": "MIT", "identifier": "MIT"},
        # Relative to the document's own URL, so that a proxy may add a prefix.
        root_path_in_servers=False,
        servers=[{"url": ".", "description": "The service that serves this document."}],
        lifespan=_exporting_spans(settings, version, lifespan) if is_traced else lifespan,
        telemetry={
            "tracing": is_traced,
            "exclude": _is_health_check,
            # One span for each request. FastAPI's own exporters would send paths and the messages of errors.
            "operation_spans": False,
            "auto_configure": False,
            "metrics": False,
            "logs": False,
        },
        openapi_url="/openapi.json" if documented else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # `include_router` would build each route again, which takes most of the time to start.
        routes=[route for router in (*routers, site) for route in router.routes],
        middleware=[
            *([Middleware(TrustedProxies, proxies=settings.trusted_proxies)] if settings.trusted_proxies else []),
            Middleware(
                RequestContext,
                hsts_seconds=settings.hsts_seconds,
                slow_seconds=settings.slow_request_seconds,
                is_draining=is_draining,
            ),
            Middleware(
                Cors,
                reject=problems.rejected_preflight,
                exempt=without_cors,
                allows_origin=settings.allows_origin,
                allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=ALLOWED_HEADERS,
                allow_credentials=allow_credentials,
                allow_private_network=True,
                expose_headers=EXPOSED_HEADERS,
            ),
            Middleware(CatchAll, on_error=problems.internal_error, on_cancel=problems.service_stopping),
            Middleware(HeadAsGet),
            Middleware(BodyTimeout, seconds=settings.body_timeout),
        ],
    )
    app.max_body_bytes = settings.max_body_bytes
    app.max_concurrent_requests = settings.max_concurrent_requests
    app.authenticate = authenticate
    problems.install(app)
    app.login_origin = login_origin
    return app


def _exporting_spans(settings: ServiceSettings, version: str, lifespan: Lifespan) -> Lifespan:
    """The lifespan of an application whose spans are exported, until everything else is closed."""

    @asynccontextmanager
    async def exporting_spans(app: FastAPI) -> AsyncIterator[None]:
        # Imported only here, because it imports much that is not even installed everywhere.
        from chassis.http import tracing

        with tracing.exporting(settings.service, version, settings.otel_exporter_otlp_endpoint):
            async with lifespan(app):
                yield

    return exporting_spans


def _is_health_check(scope: MutableMapping[str, Any]) -> bool:
    """Probes ask every few seconds; their spans would be most of what is exported."""
    path: str = scope["path"]
    return path.startswith(HEALTH_PATH)
