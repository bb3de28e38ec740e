"""The address of a client behind reverse proxies."""

import ipaddress
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class TrustedProxies:
    """Takes the client's address and scheme from the `X-Forwarded-*` headers of trusted proxies, as uvicorn does.

    An entry that is no IP address is ignored, and the address is that of the proxy: uvicorn would pass on any text, and
    it would reach the log.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[str]) -> None:
        """
        :param proxies: addresses or networks
        """
        self._app = app
        self._proxy_headers = ProxyHeadersMiddleware(self._with_valid_address, list(proxies))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._proxy_headers({**scope, "peer": scope.get("client")}, receive, send)  # type: ignore[arg-type]

    async def _with_valid_address(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.pop("peer")
        if not _is_address(scope["client"][0] if scope.get("client") else ""):
            scope["client"] = peer
        await self._app(scope, receive, send)


def _is_address(text: str) -> bool:
    """Whether the text is an IP address. For `ipaddress`, any text after a % in an IPv6 address is its zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
