"""The documentation pages, Swagger UI at `/docs` and ReDoc at `/redoc`, with all their assets.

The assets come from the `fastapi-offline` package. The pages are our own, because the framework's have inline scripts,
which our Content-Security-Policy does not allow. All URLs are relative, so that a proxy may add a prefix.
"""

from functools import cache
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

import fastapi_offline
from starlette.responses import FileResponse, HTMLResponse, Response

from chassis.errors import NotFound
from chassis.http.routing import Router

_ASSETS = Path(fastapi_offline.__file__).parent / "static"
_ASSET_NAMES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")
# ReDoc loads its vendor's logo from another host. It hides an image that can't be loaded.
_REDOC_LOGO, _EMPTY_IMAGE = b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"data:,"

_SWAGGER = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
<link rel="icon" href="docs/assets/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/assets/start.js"></script>
</body>
</html>
"""

# Tokens stay in the page's memory: persistAuthorization would store them in localStorage.
_SWAGGER_START = """window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout"
});
"""

_REDOC = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="docs/assets/favicon.png">
</head>
<body>
<redoc spec-url="openapi.json"></redoc>
<script src="docs/assets/redoc.standalone.js"></script>
</body>
</html>
"""


class AssetNotFound(NotFound):
    code = "asset-not-found"
    detail = "There is no such asset."


def router(title: str, login_origin: str | None) -> Router:
    """The two pages and their assets.

    :param login_origin: the origin that the "Authorize" button calls, if it is another service
    """
    pages = Router(include_in_schema=False)
    policy = "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            # Both tools set styles in their scripts, and ReDoc starts its search worker from a blob.
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "worker-src blob:",
            f"connect-src {_connect_sources(login_origin)}",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    asset_headers = {**headers, "Cache-Control": "max-age=3600"}

    @pages.get("/docs")
    async def swagger() -> Response:
        return HTMLResponse(_SWAGGER.format(title=escape(title)), headers=headers)

    @pages.get("/redoc")
    async def redoc() -> Response:
        return HTMLResponse(_REDOC.format(title=escape(title)), headers=headers)

    @pages.get("/docs/assets/start.js")
    async def start() -> Response:
        return Response(_SWAGGER_START, media_type="text/javascript", headers=headers)

    @pages.get("/docs/assets/redoc.standalone.js")
    async def redoc_script() -> Response:
        return Response(_redoc_script(), media_type="text/javascript", headers=asset_headers)

    @pages.get("/docs/assets/{name}")
    async def asset(name: str) -> Response:
        if name not in _ASSET_NAMES:
            raise AssetNotFound
        return FileResponse(_ASSETS / name, headers=asset_headers)

    return pages


def _connect_sources(login_origin: str | None) -> str:
    if login_origin is None:
        return "'self'"
    # Only the origin: with a path, the policy would allow just that URL.
    address = urlsplit(login_origin)
    return f"'self' {address.scheme}://{address.netloc}"


@cache
def _redoc_script() -> bytes:
    return (_ASSETS / "redoc.standalone.js").read_bytes().replace(_REDOC_LOGO, _EMPTY_IMAGE)
