"""Connections to the user service: how they are opened, reused and discarded.

The only module that imports httpx and aiohttp. httpx is the interface and aiohttp the transport, which uses a third to
a half of the CPU of httpx's own; docs/decisions/0019 has the figures.
"""

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
import aiohttp.abc
import httpx
from aiohttp.client_proto import ResponseHandler
from httpx_aiohttp import AiohttpTransport

CONNECT_TIMEOUT = 0.5  # seconds; includes the DNS lookup, but not the wait for a call slot
_CONNECT_STEPS = 10
# The user service closes connections that were idle for 75 seconds; the client does so well before.
KEEP_ALIVE = 30  # seconds
# New instances of the user service behind the same name get their share within that time. Each connection is replaced
# after half of it at the earliest, at random, so that not all are opened at the same moment.
MAX_AGE = 60  # seconds
DNS_CACHE_TTL = 1  # seconds, so that a user service that moved to another address is found soon

CALL_ERRORS = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError)
"""What a call may raise if it gets no complete response, timeouts included.

aiohttp's transport does not translate all errors into those of httpx. An odd response can raise others still: a
redirect to an invalid address, or a reason phrase that is not UTF-8.
"""


class _Connector(aiohttp.TCPConnector):
    """A pool that discards connections on which data arrived unasked.

    aiohttp would take that data for the response to the next request on the connection, that is, to another token. The
    pool also discards the connections that it had when it was told to distrust them, and those that are old.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._kept_until: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()

    def distrust(self) -> None:
        self._kept_until.clear()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        if protocol is None or protocol.should_close or protocol not in self._kept_until:
            connection.close()
            # Handled like a connection that the server has closed: the call is retried on a new one.
            raise aiohttp.ServerDisconnectedError
        return connection

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        """Raises ConnectionTimeoutError after CONNECT_TIMEOUT.

        The timeout is counted in small steps. A process that was suspended for a while, on a machine that is too busy,
        loses one step and then looks at the connection again; a single timer would have expired.
        """
        connecting = asyncio.create_task(super()._create_connection(req, traces, timeout))
        try:
            for _ in range(_CONNECT_STEPS):
                done, _pending = await asyncio.wait({connecting}, timeout=CONNECT_TIMEOUT / _CONNECT_STEPS)
                if done:
                    protocol = connecting.result()
                    age = random.uniform(MAX_AGE / 2, MAX_AGE)  # noqa: S311 - no secret
                    self._kept_until[protocol] = self._loop.time() + age
                    return protocol
            raise aiohttp.ConnectionTimeoutError
        finally:
            connecting.cancel()

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        """Close an old connection after its call, when no call waits for it, instead of keeping it."""
        is_old = self._loop.time() >= self._kept_until.get(protocol, 0)
        super()._release(key, protocol, should_close=should_close or is_old)


class _Resolver(aiohttp.ThreadedResolver):
    """Returns the addresses of a name in random order, so that each gets its share of the connections.

    The system may sort them, always alike, and most calls would use the first.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        addresses = await super().resolve(host, port, family)
        return random.sample(addresses, len(addresses))


class ConnectionPool:
    """The connections of one process to the user service.

    It limits neither the number of calls nor their duration: `AuthClient` does.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """
        :param url: of the user service
        :param headers: sent with every request
        """
        self._url = url
        # A compressed response could be a thousand times as large as the bytes that are read of it.
        self._headers = {"Accept-Encoding": "identity", **headers}
        self._tls = _tls_context(url)
        self._connector: _Connector | None = None
        self._reusing = self._transport(keep_alive=True)
        self._fresh = self._transport(keep_alive=False)

    def address(self, path: str) -> httpx.URL:
        """The parsed URL of a path. To be kept: parsing it for each call would be a tenth of the call's cost."""
        return httpx.URL(f"{self._url}{path}")

    @asynccontextmanager
    async def request(
        self,
        method: str,
        address: httpx.URL,
        headers: Mapping[str, str],
        json: object = None,
        *,
        new_connection: bool = False,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; its response is read within the context. Raises one of CALL_ERRORS.

        :param new_connection: use none of the pool's connections, and close this one afterwards
        """
        # Without httpx.AsyncClient, which would cost as much again, there are no redirects, cookies, proxies from the
        # environment or timeouts: neither may see a token, and the caller's deadline covers the whole call.
        request = httpx.Request(method, address, headers={**self._headers, **headers}, json=json)
        transport = self._fresh if new_connection else self._reusing
        response = await transport.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()

    def distrust(self) -> None:
        """Use none of the present connections again: if one of them is dead, the others may be as well."""
        if self._connector:
            self._connector.distrust()

    async def close(self) -> None:
        await self._reusing.aclose()
        await self._fresh.aclose()

    def _transport(self, *, keep_alive: bool) -> AiohttpTransport:
        def session() -> aiohttp.ClientSession:  # The transport calls it at its first use, when an event loop runs.
            connector = _Connector(
                # The call slots limit how many there are: waiting here would count as connecting.
                limit=0,
                ssl=self._tls,
                ttl_dns_cache=DNS_CACHE_TTL,
                resolver=_Resolver(),
                **({"keepalive_timeout": KEEP_ALIVE} if keep_alive else {"force_close": True}),
            )
            if keep_alive:
                self._connector = connector
            return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

        return AiohttpTransport(verify=self._tls, client=session)


def _tls_context(url: str) -> ssl.SSLContext:
    """For https, one that trusts the authorities of the system, or those of SSL_CERT_FILE and SSL_CERT_DIR.

    Loading them takes 40 ms. For http, which never uses it, one that trusts none.
    """
    return httpx.create_ssl_context() if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def failure(error: Exception) -> str:
    """What went wrong, for the log: without any part of the response. Other errors keep the name of their class."""
    cause = error.__cause__ or error  # The transport turns some errors into those of httpx, not always fitting ones.
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return "no connection"
    if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError):
        return "timeout"
    if disconnected_before_response(error):
        return "disconnected"
    return type(cause).__name__


def disconnected_before_response(error: Exception) -> bool:
    """Whether there was a connection, and it ended before any part of a response arrived."""
    if not isinstance(error, httpx.HTTPError):
        return False
    cause = error.__cause__
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return isinstance(cause.message, str)  # Otherwise it is the part of a response that has arrived.
    # Failed connection attempts have a subclass of the error for connections that were reset.
    ended = isinstance(cause, aiohttp.ClientOSError | aiohttp.ClientConnectionResetError)
    return ended and not isinstance(cause, aiohttp.ClientConnectorError)
