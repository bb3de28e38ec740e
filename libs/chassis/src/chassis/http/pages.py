"""The pages of a service: `/` for a first look, Swagger UI at `/docs` and ReDoc at `/redoc`, with all their assets.

Swagger UI and ReDoc come from the `fastapi-offline` package. The pages are our own, because the framework's have inline
scripts, which our Content-Security-Policy does not allow. All URLs are relative, so that a proxy may add a prefix.
"""

import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fastapi_offline
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from chassis.errors import NotFound
from chassis.http.routing import Router

_OURS = Path(__file__).parent / "assets"
_TOOLS = Path(fastapi_offline.__file__).parent / "static"
_ASSETS = {name: _TOOLS / name for name in ("swagger-ui-bundle.js", "swagger-ui.css")} | {
    name: _OURS / name for name in ("home.js", "pages.css", "redoc.js", "start.js", "theme.js")
}
_ASSETS_OF_HOME = ("home.js", "pages.css")
_DOCUMENTATION = """<li><a href="docs">Try it</a><span>every operation, in Swagger UI</span></li>
<li><a href="redoc">Read it</a><span>the reference, in ReDoc</span></li>
<li><a href="openapi.json">openapi.json</a><span>for generated clients</span></li>
"""
# ReDoc loads its vendor's logo from another host. It hides an image that can't be loaded.
_REDOC_LOGO, _EMPTY_IMAGE = b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"data:,"

_WEIGHT = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


class AssetNotFound(NotFound):
    code = "asset-not-found"
    detail = "There is no such asset."


def router(*, title: str, version: str, description: str, login_origin: str | None, documented: bool = True) -> Router:
    """The pages and their assets.

    :param description: its first paragraph tells on `/` what runs here
    :param login_origin: the origin that the "Authorize" button calls, if it is another service
    :param documented: whether there is more than `/`; without, `/` does not show the login origin either
    """
    pages = Router(include_in_schema=False)
    login_origin = login_origin if documented else None
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
    headers = {"Content-Security-Policy": policy}
    asset_headers = {**headers, "Cache-Control": "max-age=3600"}

    links = {"docs": "docs", "redoc": "redoc", "openapi": "openapi.json"} if documented else {}
    links["health"] = "health"
    login = ""
    if login_origin:
        links["login"] = f"{login_origin}/login"
        url = escape(login_origin)
        login = f'<li><a href="{url}">User service</a><span>accounts and login, at {url}</span></li>\n'
    about = {
        "title": title,
        "version": version,
        "description": description.strip().partition("\n\n")[0].replace("\n", " "),
        "links": links,
    }
    home_page = _page("home", title=title, version=version, summary=about["description"])
    home_page = home_page.replace("{documentation}", _DOCUMENTATION if documented else "").replace("{login}", login)
    swagger_page, redoc_page = _page("swagger", title=title), _page("redoc", title=title)

    @pages.get("/")
    async def home(request: Request) -> Response:
        """HTML for clients that prefer it, as browsers do; JSON for all others, also for those that accept neither."""
        vary = {**headers, "Vary": "Accept"}
        accepted = ",".join(request.headers.getlist("accept"))
        if _quality(accepted, "text/html") > _quality(accepted, "application/json"):
            return HTMLResponse(home_page, headers=vary)
        return JSONResponse(about, headers=vary)

    if documented:

        @pages.get("/docs")
        async def swagger() -> Response:
            return HTMLResponse(swagger_page, headers=headers)

        @pages.get("/redoc")
        async def redoc() -> Response:
            return HTMLResponse(redoc_page, headers=headers)

        @pages.get("/docs/assets/redoc.standalone.js")
        async def redoc_script() -> Response:
            return Response(_redoc_script(), media_type="text/javascript", headers=asset_headers)

    @pages.get("/favicon.ico")
    async def icon() -> Response:
        return FileResponse(_OURS / "icon.svg", media_type="image/svg+xml", headers=asset_headers)

    @pages.get("/docs/assets/{name}")
    async def asset(name: str) -> Response:
        if name not in (_ASSETS if documented else _ASSETS_OF_HOME):
            raise AssetNotFound
        return FileResponse(_ASSETS[name], headers=asset_headers)

    return pages


def _quality(accepted: str, media_type: str) -> float:
    """The weight of a media type in an `Accept` header: that of the most specific range (RFC 9110, section 12.5.1)."""
    ranges = ("*/*", f"{media_type.partition('/')[0]}/*", media_type)
    found = {}
    for entry in accepted.lower().split(","):
        media_range, *parameters = (part.strip() for part in entry.split(";"))
        weight = next((each for each in parameters if each.startswith("q=")), "q=1")
        if media_range in ranges and (match := _WEIGHT.fullmatch(weight)):
            found[ranges.index(media_range)] = float(match[1])
    return found[max(found)] if found else 0


def _connect_sources(login_origin: str | None) -> str:
    if login_origin is None:
        return "'self'"
    # Only the origin: with a path, the policy would allow just that URL.
    address = urlsplit(login_origin)
    return f"'self' {address.scheme}://{address.netloc}"


def _page(name: str, **texts: Any) -> str:
    page = (_OURS / f"{name}.html").read_text(encoding="utf-8")
    for placeholder, text in texts.items():
        page = page.replace(f"{{{placeholder}}}", escape(text))
    return page


@cache
def _redoc_script() -> bytes:
    return (_TOOLS / "redoc.standalone.js").read_bytes().replace(_REDOC_LOGO, _EMPTY_IMAGE)
