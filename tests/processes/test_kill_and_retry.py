"""A service that is killed between the commit and the response, and a client that repeats its request."""

from collections.abc import Iterator

import httpx
import pytest

from testkit.processes import SETTINGS, Account, BrokenService, Services
from tests.processes.dying_product_service import ORDER

LAMP = {"name": "Lamp", "price": "19.99", "quantity": 3}


class DyingService(BrokenService):
    """The product service as a process that dies after the next commit if told to."""

    @property
    def module(self) -> str:
        return "tests.processes.dying_product_service"

    def die_after_the_next_commit(self) -> None:
        (self.folder / ORDER).touch()


@pytest.fixture(scope="module")
def products(services_on_both: Services) -> Iterator[DyingService]:
    services_on_both.products.stop()
    settings = {name: value for name, value in services_on_both.products.environment.items() if name in SETTINGS}
    service = DyingService("product-service", services_on_both.products.folder, **settings)
    try:
        yield service.start().wait_ready()
    finally:
        service.close()


@pytest.fixture(scope="module")
def owner(services_on_both: Services) -> Account:
    return services_on_both.sign_up()


def test_a_creation_is_carried_out_once_and_the_retry_gets_its_response(products: DyingService, owner: Account) -> None:
    headers = {**owner.bearer, "Idempotency-Key": "a-creation"}
    with products.client(headers=headers) as client:
        products.die_after_the_next_commit()
        with pytest.raises(httpx.TransportError):
            client.post("/products", json=LAMP)
        products.wait_ended()
        [(stored,)] = products.sql("SELECT id FROM products WHERE name = :name", name=LAMP["name"])
        products.start().wait_ready()
        answer = client.post("/products", json=LAMP)
        assert (answer.status_code, answer.headers["idempotency-replayed"]) == (201, "true")
        assert answer.headers["location"] == f"/products/{stored}"
        assert client.get(answer.headers["location"]).json() == answer.json()
        assert len(client.get("/products?q=lamp").json()) == 1


def test_a_stock_change_is_carried_out_once(services_on_both: Services, products: DyingService, owner: Account) -> None:
    product = services_on_both.create_product(owner, name="Chair", quantity=3)
    path = f"/products/{product['id']}"
    headers = {**owner.bearer, "Idempotency-Key": "a-sale"}
    sale = {"delta": -1, "reason": "sold"}
    with products.client(headers=headers) as client:
        products.die_after_the_next_commit()
        with pytest.raises(httpx.TransportError):
            client.post(f"{path}/stock", json=sale)
        products.wait_ended()
        products.start().wait_ready()
        assert client.post(f"{path}/stock", json=sale).json()["quantity"] == 2
        assert client.get(path).json()["quantity"] == 2
