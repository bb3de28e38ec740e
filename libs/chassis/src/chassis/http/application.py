"""The FastAPI application as both services want it; `create_app` of each service calls `build`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware import Middleware

from chassis.http import openapi, pages, problems
from chassis.http.bearer import Authenticate, no_authentication
from chassis.http.middleware import CatchAll, Cors, HeadAsGet, RequestContext
from chassis.http.routing import Router
from chassis.settings import ServiceSettings

_MAY_BE_READ_BY_SCRIPTS = [
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
    "X-Total-Count",
]
_MAY_BE_SENT_BY_SCRIPTS = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "X-Request-ID",
    "X-Requested-With",
    "traceparent",
]


class Application(FastAPI):
    """A FastAPI application whose document is completed by `chassis.http.openapi`."""

    max_body_bytes: int
    authenticate: Authenticate
    """Asked by every operation that needs a caller; see `chassis.http.bearer`."""
    log_in_at: str | None = None

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = openapi.complete(super().openapi(), self.log_in_at)
        return self.openapi_schema


def build(
    settings: ServiceSettings,
    *,
    title: str,
    version: str,
    description: str,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    routers: Sequence[Router],
    authenticate: Authenticate = no_authentication,
    log_in_at: str | None = None,
) -> Application:
    """Put middleware, error handlers, documentation pages and the routers together.

    :param authenticate: finds out whose token a request has; raises InvalidToken, or why that can't be known
    :param log_in_at: the origin where a browser on the documentation page gets its token, if it is not this service
    """
    app = Application(
        title=title,
        version=version,
        description=description,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=openapi.operation_id,
        middleware=[
            Middleware(RequestContext),
            Middleware(
                Cors,
                refuse=problems.refused_preflight,
                allow_origins=settings.allowed_origins,
                allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=_MAY_BE_SENT_BY_SCRIPTS,
                expose_headers=_MAY_BE_READ_BY_SCRIPTS,
            ),
            Middleware(CatchAll, answer=problems.internal_error, cancelled=problems.cut_off),
            Middleware(HeadAsGet),
        ],
    )
    app.max_body_bytes = settings.max_body_bytes
    app.authenticate = authenticate
    problems.install(app)
    app.log_in_at = log_in_at
    for router in (*routers, pages.router(title, log_in_at)):
        app.include_router(router)
    return app
