"""Two instances are restarted in turn, under load, behind a gateway: no client may notice."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from chassis.settings import PRODUCTION_DEFAULTS
from testkit.processes import Account, Service, eventually, services_in
from tests.gateways.load import load
from tests.gateways.load_balancers import gateway

DRAIN = PRODUCTION_DEFAULTS["drain_seconds"]


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
    with (
        gateway(configuration, services, tmp_path, retries=retries) as balancer,
        load(balancer.url, account) as clients,
    ):
        for instance in services:
            for each in services:
                eventually(partial(has_more_requests, each, requests_of(each)), 60, "the gateway uses both")
            assert instance.stop() == 0
            instance.start().wait_ready()
        eventually(partial(has_more_requests, services[-1], requests_of(services[-1])), 60, "the gateway uses both")
    setting = f"{configuration}, {'with' if retries else 'without'} retries, DRAIN_SECONDS={drain:g}"
    print(f"\n{setting}: {clients.requests} requests, {clients.failed.total()} failed: {dict(clients.failed)}")
    assert bool(clients.failed) == fails
