"""Two instances are restarted in turn, under load, behind a gateway: no client may notice."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from chassis.settings import PRODUCTION_DEFAULTS
from testkit.processes import Account, Service, eventually, services_in
from tests.gateways.gateways import gateway

CLIENTS = 12
PAUSE = 0.02
"""Seconds between two requests of a client."""

DRAIN = PRODUCTION_DEFAULTS["drain_seconds"]
DRAFT = {"name": "Lamp", "price": "19.99", "quantity": 3}


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Service], Account]]:
    """Two instances of the product service with one database, and an account."""
    folder = tmp_path_factory.mktemp("instances")
    with services_in(folder) as services, ExitStack() as cleanup:
        first = services.products
        common = {"USER_SERVICE_URL": services.users.url, "DATABASE_URL": first.database_url}
        second = Service("product-service", folder / "second", **common)
        cleanup.callback(second.close)
        for service in (services.users, first, second):
            service.start().wait_ready()
        yield [first, second], services.sign_up()


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


def requests_of(instance: Service) -> int:
    return instance.log.count('"route": "/products"')


def has_more_requests(instance: Service, before: int) -> bool:
    return requests_of(instance) > before + 20


@pytest.mark.parametrize(
    ("configuration", "retries", "drain", "fails"),
    [
        ("haproxy.cfg", True, DRAIN, False),
        ("nginx.conf", True, DRAIN, False),
        # Draining alone is enough for a gateway that looks at readiness. Without either, requests fail.
        ("haproxy.cfg", False, DRAIN, False),
        ("haproxy.cfg", False, 0, True),
    ],
)
def test_a_rolling_restart(
    instances: tuple[list[Service], Account],
    tmp_path: Path,
    *,
    configuration: str,
    retries: bool,
    drain: float,
    fails: bool,
) -> None:
    services, account = instances
    for instance in services:
        instance.environment["DRAIN_SECONDS"] = str(drain)
        instance.restart()
    with gateway(configuration, services, tmp_path, retries=retries) as url, load(url, account) as clients:
        for instance in services:
            for each in services:
                eventually(partial(has_more_requests, each, requests_of(each)), 60, "the gateway uses both")
            assert instance.stop() == 0
            instance.start().wait_ready()
        eventually(partial(has_more_requests, services[-1], requests_of(services[-1])), 60, "the gateway uses both")
    setting = f"{configuration}, {'with' if retries else 'without'} retries, DRAIN_SECONDS={drain:g}"
    print(f"\n{setting}: {clients.requests} requests, {clients.failed.total()} failed: {dict(clients.failed)}")
    assert bool(clients.failed) == fails
