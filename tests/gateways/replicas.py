"""Both services as replicas: several processes with one database and one signing key, behind HAProxy."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from testkit.processes import Endpoint, Pair, Service
from tests.gateways.load_balancers import LoadBalancer, gateway

SECRET_KEY = "the-key-of-all-replicas-0123456789-0123456789"


class Replicas(Endpoint):
    """A service as replicas, at the address of their HAProxy."""

    def __init__(self, instances: Sequence[Service], balancer: LoadBalancer) -> None:
        self.name = instances[0].name
        self.instances = instances
        self.balancer = balancer

    @property
    def port(self) -> int:
        return self.balancer.port

    @property
    def log(self) -> str:
        return "".join(each.log for each in self.instances)

    def sql(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement in their database, in a separate transaction, and return the rows."""
        return self.instances[0].sql(statement, **parameters)

    def start(self) -> Self:
        for each in self.instances:
            each.start()
        return self

    def stop(self) -> None:
        for each in self.instances:
            each.stop()

    def reason_of_end(self) -> str | None:
        return next((reason for each in self.instances if (reason := each.reason_of_end())), None)


@dataclass(frozen=True)
class ReplicatedServices(Pair):
    users: Replicas
    products: Replicas


@contextmanager
def replicas(
    name: str, count: int, folder: Path, settings: Mapping[str, str], kind: type[Service] = Service
) -> Iterator[Replicas]:
    """Start replicas of a service, and their HAProxy.

    :param folder: for the folders of all replicas
    :param kind: how each is run
    """
    with ExitStack() as cleanup:
        instances = [kind(name, folder / f"{name}-{number}", **settings) for number in range(1, count + 1)]
        for each in instances:
            cleanup.callback(each.close)
            each.start()
        for each in instances:
            each.wait_ready()
        own = folder / f"{name}-haproxy"
        own.mkdir()
        yield Replicas(instances, cleanup.enter_context(gateway("haproxy.cfg", instances, own)))


@contextmanager
def replicated_services(
    folder: Path,
    new_database: Callable[[], str],
    count: int,
    settings: Mapping[str, str],
    user_service: type[Service] = Service,
) -> Iterator[ReplicatedServices]:
    """Start so many replicas of each service. The product services call the user services through HAProxy.

    :param new_database: makes a database for each service and returns its address
    :param settings: of both services
    :param user_service: how each user service is run
    """
    common = {"TRUSTED_PROXIES": "127.0.0.1", **settings}
    with ExitStack() as cleanup:
        own = {"SECRET_KEY": SECRET_KEY, "DATABASE_URL": new_database()}
        users = cleanup.enter_context(replicas("user-service", count, folder, {**common, **own}, user_service))
        own = {"USER_SERVICE_URL": users.url, "DATABASE_URL": new_database()}
        products = cleanup.enter_context(replicas("product-service", count, folder, {**common, **own}))
        yield ReplicatedServices(users, products)
