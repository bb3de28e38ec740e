"""Builds the FastAPI application of a service; `create_app` of each service calls `build`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware import Middleware

from chassis.http import openapi, pages, problems
from chassis.http.bearer import Authenticate, no_authentication
from chassis.http.limits import BodyTimeout
from chassis.http.middleware import CatchAll, Cors, HeadAsGet, RequestContext
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
]
"""Request headers that scripts of other origins may send."""


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
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    routers: Sequence[Router],
    tags: dict[str, str] | None = None,
    authenticate: Authenticate = no_authentication,
    login_origin: str | None = None,
    allow_credentials: bool = False,
) -> Application:
    """Assemble middleware, error handlers, documentation pages and routers.

    :param tags: the descriptions of the routers' tags, by name, in the order of the documentation pages
    :param authenticate: identifies the caller by the token; raises InvalidToken, or another error if it can't
    :param login_origin: the origin that issues tokens to the documentation page, if it is another service
    :param allow_credentials: whether scripts of allowed origins may send and receive cookies
    """
    documented = settings.documentation == "on"
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
        lifespan=lifespan,
        openapi_url="/openapi.json" if documented else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # `include_router` would build each route again, which takes most of the time to start.
        routes=[route for router in (*routers, site) for route in router.routes],
        middleware=[
            *([Middleware(TrustedProxies, proxies=settings.trusted_proxies)] if settings.trusted_proxies else []),
            Middleware(RequestContext, hsts_seconds=settings.hsts_seconds),
            Middleware(
                Cors,
                reject=problems.rejected_preflight,
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
