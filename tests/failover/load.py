"""Clients that log in, write, revoke and read while the database fails over, and what was acknowledged to them."""

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import httpx

from testkit.processes import Account, Service, Services, eventually

DRAFT = {"name": "Lamp", "price": "19.99", "quantity": 0}
PAUSE = 0.05
"""Seconds between two requests of a client."""


@dataclass
class Stream:
    """The requests of one kind."""

    successes: list[float] = field(default_factory=list)
    """When a request that succeeded had ended."""
    failures: Counter[str] = field(default_factory=Counter)
    """How many failed, by status and code, or by the error of the transport."""

    def longest_gap(self, since: float) -> float:
        """The longest time without a success, in seconds, that ended after `since`."""
        times = sorted(self.successes)
        return max(end - start for start, end in itertools.pairwise(times) if end > since)


class Load:
    """One client for each kind of request. What it keeps, the service has acknowledged."""

    def __init__(self, services: Services, with_replica: Service) -> None:
        """:param with_replica: a product service with DATABASE_READ_URL, and the same database as that of `services`"""
        self._services = services
        self._with_replica = with_replica
        self._stopping = threading.Event()
        self.streams = {name: Stream() for name in ("write", "login", "validation", "read", "replica")}
        self.created: list[str] = []
        """The SKUs of the products created."""
        self.revoked: list[str] = []
        """Tokens whose logout was acknowledged."""
        self.valid: list[str] = []
        """Tokens that were never revoked."""
        self.accepted: list[str] = []
        """Tokens that were valid after their logout was acknowledged."""
        self.stock = 0
        """The sum of the acknowledged changes of the stock of one product."""
        self.owner = services.sign_up()
        self.product = services.create_product(self.owner, quantity=0)

    @contextmanager
    def running(self) -> Iterator[None]:
        clients = (
            self._create,
            self._adjust_stock,
            self._log_in_and_out,
            self._validate,
            self._read,
            self._read_replica,
        )
        threads = [threading.Thread(target=client) for client in clients]
        with ExitStack() as cleanup:
            for thread in threads:
                thread.start()
                cleanup.callback(thread.join)
            cleanup.callback(self._stopping.set)
            yield

    def wait_for_successes(self, count: int, within: float = 120.0) -> None:
        """Wait until each kind of request has succeeded so often since now."""
        targets = {name: len(stream.successes) + count for name, stream in self.streams.items()}
        eventually(
            lambda: all(len(self.streams[name].successes) >= target for name, target in targets.items()),
            within,
            lambda: "\n".join(f"{name}: {stream.failures}" for name, stream in self.streams.items()),
        )

    def _repeat(self, request: Callable[[], object]) -> None:
        while not self._stopping.wait(PAUSE):
            with suppress(httpx.TransportError):
                request()

    def _ask(self, stream: str, client: httpx.Client, method: str, path: str, **content: object) -> httpx.Response:
        """Send a request, again with the same content and idempotency key until its outcome is known."""
        results = self.streams[stream]
        while True:
            try:
                answer = client.request(method, path, **content)  # type: ignore[arg-type]
            except httpx.TransportError as error:
                results.failures[type(error).__name__] += 1
            else:
                if answer.is_success:
                    results.successes.append(time.monotonic())
                    return answer
                code = answer.json()["code"]
                results.failures[f"{answer.status_code} {code}"] += 1
                assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
                assert "retry-after" in answer.headers
            if self._stopping.wait(PAUSE):
                raise httpx.TransportError("stopped")

    def _client(self, account: Account) -> httpx.Client:
        return self._services.products.client(headers=account.bearer)

    def _create(self) -> None:
        with self._client(self.owner) as client:

            def create() -> None:
                sku = uuid.uuid4().hex
                headers = {"Idempotency-Key": sku}
                self._ask("write", client, "POST", "/products", json={**DRAFT, "sku": sku}, headers=headers)
                self.created.append(sku)

            self._repeat(create)

    def _adjust_stock(self) -> None:
        with self._client(self.owner) as client:

            def adjust() -> None:
                headers = {"Idempotency-Key": uuid.uuid4().hex}
                path = f"/products/{self.product['id']}/stock"
                self._ask("write", client, "POST", path, json={"delta": 1, "reason": "a delivery"}, headers=headers)
                self.stock += 1

            self._repeat(adjust)

    def _log_in_and_out(self) -> None:
        login = {"username": self.owner.username, "password": self.owner.password}
        with self._services.users.client() as client:

            def log_in_and_out() -> None:
                token = self._ask("login", client, "POST", "/login", json=login).json()["access_token"]
                kept = self._ask("login", client, "POST", "/login", json=login).json()["access_token"]
                self.valid.append(kept)
                headers = {"Authorization": f"Bearer {token}"}
                while not self._stopping.is_set():
                    try:
                        answer = client.post("/logout", headers=headers)
                    except httpx.TransportError:
                        continue
                    # After a logout whose outcome was unknown, the token may be revoked already.
                    if answer.is_success or answer.status_code == httpx.codes.UNAUTHORIZED:
                        self.revoked.append(token)
                        if self.is_valid(token):
                            self.accepted.append(token)
                        return
                    time.sleep(PAUSE)

            self._repeat(log_in_and_out)

    def _validate(self) -> None:
        with self._services.users.client() as client:
            self._repeat(
                lambda: self._ask("validation", client, "POST", "/validate-token", json={"token": self.owner.token})
            )

    def _read(self) -> None:
        with self._services.products.client() as client:
            self._repeat(lambda: self._ask("read", client, "GET", "/products"))

    def _read_replica(self) -> None:
        with self._with_replica.client() as client:
            self._repeat(lambda: self._ask("replica", client, "GET", "/products"))

    def is_valid(self, token: str) -> bool | None:
        """What the user service says about a token; None if it does not know."""
        with suppress(httpx.TransportError), self._services.users.client() as client:
            answer = client.post("/validate-token", json={"token": token})
            return bool(answer.json()["valid"]) if answer.is_success else None
        return None

    def report(self, killed: float) -> list[str]:
        """A line for each kind of request: the longest time without a success, and the failures."""
        return [
            f"{name:<12}{stream.longest_gap(killed):5.1f} s without a success; "
            + (", ".join(f"{count} x {what}" for what, count in sorted(stream.failures.items())) or "none failed")
            for name, stream in self.streams.items()
        ]
