"""USER_SERVICE_URL is a name with several addresses, which a DNS server changes under load: no request may fail."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from auth_client.pool import MAX_AGE
from testkit.processes import Pair, Service, eventually, free_port
from tests.discovery.name_server import NameServer, name_server
from tests.gateways.load import load

NAME = "user-service.twinlatch.test"
WITHIN = 5 * MAX_AGE
"""Seconds. It takes less than MAX_AGE, unless all new connections happen to be to other instances."""

ENOUGH = 100
"""Validations after which an instance counts as used, or another one as unused."""


class Instance(Service):
    """A user service at an address of its own. All have the same port, database and key."""

    def __init__(self, folder: Path, address: str, **environment: str) -> None:
        super().__init__("user-service", folder, HOST=address, **environment)
        self.address = address

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def validations(self) -> int:
        return self.log.count('"route": "/validate-token"')


@pytest.fixture
def names(tmp_path: Path) -> Iterator[NameServer]:
    with name_server(tmp_path) as server:
        yield server


@pytest.fixture
def instances(tmp_path: Path) -> Iterator[list[Instance]]:
    """Three, not started yet."""
    common = {
        "PORT": str(free_port()),
        "SECRET_KEY": "the-key-of-all-instances-0123456789-0123456789",
        "DATABASE_URL": f"sqlite:///{tmp_path}/users.db",
    }
    with ExitStack() as cleanup:
        made = [Instance(tmp_path / f"user-service-{n}", f"127.0.0.{10 + n}", **common) for n in range(3)]
        for each in made:
            cleanup.callback(each.close)
        yield made


def require_use(instances: Sequence[Instance], within: float) -> None:
    """Wait until each has had enough validations from now on."""
    for each, before in [(each, each.validations) for each in instances]:
        eventually(partial(exceeds, each, before + ENOUGH), within, f"{each.address} gets validations")


def exceeds(instance: Instance, number: int) -> bool:
    return instance.validations >= number


def require_no_use(gone: Instance, others: Sequence[Instance], within: float) -> None:
    """Wait until it gets no validation while all others get enough."""

    def is_unused() -> bool:
        before = gone.validations
        require_use(others, within)
        return gone.validations == before

    eventually(is_unused, within, f"{gone.address} gets no more validations")


def test_changing_addresses_under_load(names: NameServer, instances: list[Instance], tmp_path: Path) -> None:
    first, second, third = instances
    first.start().wait_ready()
    second.start().wait_ready()
    names.publish(NAME, [first.address, second.address])
    url = f"http://{NAME}:{first.port}"
    with ExitStack() as cleanup:
        products = Service("product-service", tmp_path / "product-service", USER_SERVICE_URL=url)
        cleanup.callback(products.close)
        products.start().wait_ready()
        account = Pair(first, products).sign_up()
        clients = cleanup.enter_context(load(products.url, account))
        require_use([first, second], WITHIN)

        # One is added, and one is removed before it ends, as Kubernetes and Consul do.
        third.start().wait_ready()
        names.publish(NAME, [second.address, third.address])
        require_use([second, third], WITHIN)
        require_no_use(first, [second, third], WITHIN)
        assert first.stop() == 0

        # One dies while its address is still in the answer.
        second.kill()
        require_use([third], 60)
        names.publish(NAME, [third.address])

        # All move.
        first.start().wait_ready()
        names.publish(NAME, [first.address])
        require_no_use(third, [first], WITHIN)
        assert third.stop() == 0
        require_use([first], 60)
    print(f"\n{clients.requests} requests, {clients.failed.total()} failed: {dict(clients.failed)}")
    assert not clients.failed
