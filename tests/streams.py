"""Continuous calls from several clients, with the status of each, for tests that stop something meanwhile."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from threading import Event
from typing import Any, Self

import httpx

from testkit.processes import Endpoint, Pair, eventually

Call = Callable[[httpx.Client, str], httpx.Response]
DEADLINE = 60.0  # seconds


class Stream:
    """Clients that make one call after the other, each with a new name, until the block ends.

    with Stream(service, lambda client, name: client.post("/register", json={"username": name, ...})) as stream:
        stream.flows()
    """

    def __init__(self, service: Endpoint, call: Call, clients: int = 4, prefix: str = "item", **options: Any) -> None:
        """
        :param clients: the number of calls at a time
        :param prefix: of every name
        :param options: of each httpx.Client
        """
        self._service = service
        self._call = call
        self._prefix = prefix
        self._options = options
        self._stop = Event()
        self._clients = clients
        self._threads = ThreadPoolExecutor(clients)
        self._running: list[Future[None]] = []
        self.answers: dict[str, int | None] = {}
        """The status of each call by its name; None if the connection broke."""

    def __enter__(self) -> Self:
        self._running = [self._threads.submit(self._work, number) for number in range(self._clients)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._threads.shutdown()
        for client in self._running:
            client.result()

    def _work(self, number: int) -> None:
        with self._service.client(**self._options) as client:
            for n in count():
                name = f"{self._prefix}-{number}-{n}"
                if self._stop.is_set():
                    return
                try:
                    self.answers[name] = self._call(client, name).status_code
                except httpx.TransportError:
                    self.answers[name] = None
                    # A refused connection takes no time: without a pause, the clients would use all of the CPU.
                    self._stop.wait(0.02)

    def flows(self, calls: int = 20, status: int = 201) -> None:
        """Return once this many more calls have got this status."""
        wanted = len(self.names(status)) + calls
        eventually(lambda: len(self.names(status)) >= wanted, DEADLINE, lambda: f"{wanted} of {self.counts}")

    def names(self, *statuses: int | None) -> set[str]:
        """The names of the calls that got one of these statuses."""
        # A copy, because the clients still add to it.
        return {name for name, status in self.answers.copy().items() if status in statuses}

    @property
    def counts(self) -> Counter[int | None]:
        return Counter(self.answers.copy().values())


def names_of_products(services: Pair, prefix: str) -> Counter[str]:
    """The names of the products with this prefix, and how many products have each."""
    found: Counter[str] = Counter()
    with services.products.client() as client:
        url: str | None = "/products?limit=100"
        while url:
            page = client.get(url)
            page.raise_for_status()
            found.update(product["name"] for product in page.json() if product["name"].startswith(prefix))
            url = page.links.get("next", {}).get("url")
    return found


def create(client: httpx.Client, name: str) -> httpx.Response:
    return client.post("/products", json={"name": name, "price": "19.99", "quantity": 3})


def assert_kept(stream: Stream, stored: Counter[str]) -> None:
    """Assert that all acknowledged items are stored, no rejected one is, and none is stored twice."""
    assert stream.names(201) <= set(stored), stream.names(201) - set(stored)
    assert set(stored) <= stream.names(201, None, 503), set(stored) - stream.names(201, None, 503)
    assert set(stored.values()) <= {1}, stored.most_common(3)
