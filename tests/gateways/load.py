"""Clients that count the requests that fail."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from testkit.processes import Account

CLIENTS = 12
PAUSE = 0.02
"""Seconds between two requests of a client."""

DRAFT = {"name": "Lamp", "price": "19.99", "quantity": 3}


class Load:
    """Clients that read and write products, over connections that they keep, in a thread of their own."""

    def __init__(self, url: str, account: Account) -> None:
        self._url = url
        self._account = account
        self._stopping = threading.Event()
        self.requests = 0
        self.failed: Counter[str] = Counter()
        """How many failed, by method and status or error."""

    def run(self) -> None:
        asyncio.run(self._run())

    def stop(self) -> None:
        self._stopping.set()

    async def _run(self) -> None:
        options = {"headers": self._account.bearer, "trust_env": False, "timeout": 30.0}
        async with httpx.AsyncClient(base_url=self._url, **options) as client:  # type: ignore[arg-type]
            await asyncio.gather(*(self._shop(client) for _ in range(CLIENTS)))

    async def _shop(self, client: httpx.AsyncClient) -> None:
        while not self._stopping.is_set():
            created = await self._request(client, "POST", "/products", json=DRAFT)
            await self._request(client, "GET", "/products")
            if created is not None:
                path = f"/products/{created.json()['id']}"
                await self._request(client, "PATCH", path, json={"quantity": 4})
                await self._request(client, "DELETE", path)

    async def _request(
        self, client: httpx.AsyncClient, method: str, path: str, **content: Any
    ) -> httpx.Response | None:
        await asyncio.sleep(PAUSE)
        self.requests += 1
        try:
            answer = await client.request(method, path, **content)
        except httpx.TransportError as error:
            self.failed[f"{method} {type(error).__name__}"] += 1
            return None
        if answer.is_error:
            self.failed[f"{method} {answer.status_code}"] += 1
            return None
        return answer


@contextmanager
def load(url: str, account: Account) -> Iterator[Load]:
    clients = Load(url, account)
    thread = threading.Thread(target=clients.run)
    thread.start()
    try:
        yield clients
    finally:
        clients.stop()
        thread.join()
