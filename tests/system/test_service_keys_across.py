"""Service keys between running services: the right key, a wrong key, no key, and replacing a key."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from testkit.processes import Account, Pair, Service, problem, services_in
from tests.streams import Stream, create

KEY, NEXT_KEY = (secrets.token_hex(20) for _ in range(2))
FIRST = f"product-service:{KEY}"
BOTH = f"{FIRST},product-service-next:{NEXT_KEY}"
SECOND = f"product-service-next:{NEXT_KEY}"


@dataclass(frozen=True)
class Shop:
    """One user service, and three replicas of the product service with one database and different keys."""

    users: Service
    with_key: Service
    with_next_key: Service
    without_key: Service

    @property
    def replicas(self) -> tuple[Service, ...]:
        return self.with_key, self.with_next_key, self.without_key

    def accept(self, keys: str) -> None:
        """Restart the user service with these SERVICE_KEYS, unless it already has them."""
        if self.users.environment.get("SERVICE_KEYS") != keys:
            self.users.environment["SERVICE_KEYS"] = keys
            self.users.restart()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """All services, running, with debug logs."""
    folder = tmp_path_factory.mktemp("services")
    with services_in(folder, LOG_LEVEL="DEBUG") as services, ExitStack() as cleanup:
        replicas = []
        for name, settings in (("key", {"SERVICE_KEY": KEY}), ("next-key", {"SERVICE_KEY": NEXT_KEY}), ("no-key", {})):
            replica = Service("product-service", folder / name, **settings)
            for shared in ("LOG_LEVEL", "USER_SERVICE_URL"):
                replica.environment[shared] = services.products.environment[shared]
            replica.environment["DATABASE_URL"] = services.products.database_url
            cleanup.callback(replica.close)
            replicas.append(replica.start())
        shop = Shop(services.users, *replicas)
        shop.accept(FIRST)
        for replica in replicas:
            replica.wait_ready()
        yield shop


@pytest.fixture
def owner(shop: Shop) -> Account:
    """A new account; registering and logging in need no service key."""
    return Pair(shop.users, shop.with_key).sign_up()


def validations(replica: Service) -> list[dict[str, Any]]:
    """The log lines of this replica's calls to the user service."""
    return [line for line in replica.log_lines if line["message"] == "called user-service"]


def test_a_service_with_its_key_can_validate_tokens(shop: Shop, owner: Account) -> None:
    shop.accept(FIRST)
    with shop.with_key.client() as client:
        client.headers.update(owner.bearer)
        assert create(client, "lamp").status_code == 201
        client.headers["Authorization"] += "x"
        problem(create(client, "lamp"), 401, "invalid-token")


@pytest.mark.parametrize("which", ["with_next_key", "without_key"])
def test_without_an_accepted_key_protected_calls_are_503_and_reads_work(shop: Shop, owner: Account, which: str) -> None:
    shop.accept(FIRST)
    product = Pair(shop.users, shop.with_key).create_product(owner)
    address = f"/products/{product['id']}"
    replica: Service = getattr(shop, which)
    with replica.client() as client:
        # Whether a token is valid or not, the service can't know without an answer.
        for token in (owner.token, f"{owner.token}x"):
            client.headers["Authorization"] = f"Bearer {token}"
            for answer in (create(client, "lamp"), client.put(address, json={"quantity": 1}), client.delete(address)):
                problem(answer, 503, "auth-unavailable")
                assert int(answer.headers["retry-after"]) >= 1
                assert "www-authenticate" not in answer.headers
            assert validations(replica)[-1]["status"] == 401
            assert client.get(address).json() == product
            assert client.get("/products").status_code == 200
        del client.headers["Authorization"]
        problem(create(client, "lamp"), 401, "not-authenticated")
        assert client.get("/health/ready").status_code == 200


def test_replacing_a_key_step_by_step_rejects_no_validation(shop: Shop, owner: Account) -> None:
    shop.accept(FIRST)
    old, new = shop.with_key, shop.with_next_key
    before = {replica.port: len(validations(replica)) for replica in (old, new)}
    with Stream(old, create, clients=1, prefix="old", headers=owner.bearer) as calls_of_old:
        calls_of_old.flows(5)
        shop.accept(BOTH)
        calls_of_old.flows(5)
        # A replica with the new key replaces one with the old key.
        with Stream(new, create, clients=1, prefix="new", headers=owner.bearer) as calls_of_new:
            calls_of_new.flows(5)
            calls_of_old.flows(5)
    with Stream(new, create, clients=1, prefix="newer", headers=owner.bearer) as later_calls_of_new:
        later_calls_of_new.flows(5)
        shop.accept(SECOND)
        later_calls_of_new.flows(5)

    assert set(calls_of_new.counts) == {201}
    # Only during a restart of the user service may calls fail.
    assert set(calls_of_old.counts) | set(later_calls_of_new.counts) <= {201, 503}
    for replica in (old, new):
        answered = [line["status"] for line in validations(replica)[before[replica.port] :]]
        assert set(answered) <= {200, 503, None}
    # Now the old key is rejected.
    with old.client(headers=owner.bearer) as client:
        problem(create(client, "lamp"), 503, "auth-unavailable")
    assert validations(old)[-1]["status"] == 401


def test_logs_contain_no_service_key(shop: Shop, owner: Account) -> None:
    for replica in shop.replicas:
        with replica.client(headers=owner.bearer) as client:
            create(client, "lamp")
        assert validations(replica)
    with shop.users.client() as client:
        for key in (KEY, NEXT_KEY):
            answer = client.post("/validate-token", json={"token": key}, headers={"X-Service-Key": key})
            shop.users.wait_for_log_line("request", request_id=answer.headers["x-request-id"])
    for service in (shop.users, *shop.replicas):
        for key in (KEY, NEXT_KEY):
            assert key not in service.log
