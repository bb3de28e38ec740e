"""A restored user service: revoked tokens stay revoked, and no account gets the id of another one."""

import subprocess
from pathlib import Path

import pytest

from testkit import preloaded
from testkit.databases import Databases, NewDatabase
from testkit.processes import Service, Services, problem

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def services(services_on_both: Services) -> Services:
    return services_on_both


class Lost:
    """What happens after a backup, and is lost with a restore: a logout, and an account that creates a product."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.ada = services.sign_up()
        with services.users.client() as client:
            login = client.post("/login", json={"username": self.ada.username, "password": PASSWORD})
        self.refresh_token = login.json()["refresh_token"]
        self.bearer = {"Authorization": f"Bearer {login.json()['access_token']}"}

    def happen(self) -> None:
        with self._services.users.client() as client:
            assert client.post("/logout", headers=self.bearer).status_code == 204
        self.bob = self._services.sign_up()
        self.product = self._services.create_product(self.bob)

    def check(self) -> None:
        """After the restore."""
        with self._services.users.client() as users, self._services.products.client() as products:
            problem(users.get("/me", headers=self.bearer), 401, "invalid-token")
            problem(users.post("/refresh", json={"refresh_token": self.refresh_token}), 401)
            draft = {"name": "Cup", "price": "1", "quantity": 1}
            problem(products.post("/products", json=draft, headers=self.bearer), 401, "invalid-token")
            carol = self._services.sign_up()
            assert carol.id > self.bob.id
            change = {"price": "1"}
            bobs = f"/products/{self.product['id']}"
            problem(products.patch(bobs, json=change, headers=carol.bearer), 403)
            self._services.log_in(self.ada.username, PASSWORD)


def run(service: Service, *words: str) -> subprocess.CompletedProcess[str]:
    done = preloaded.run(service.module, words, service.folder, service.environment)
    assert done.returncode == 0, done.stderr
    return done


def test_a_restore_keeps_tokens_revoked_and_reuses_no_id(
    services: Services, tmp_path: Path, new_database: NewDatabase
) -> None:
    services.users.environment["DATABASE_URL"] = new_database(None)
    services.users.restart()
    lost = Lost(services)
    run(services.users, "backup", str(tmp_path / "backup"))
    lost.happen()
    services.users.stop()
    services.users.environment["DATABASE_URL"] = new_database(None)
    assert '"message": "database restored"' in run(services.users, "restore", str(tmp_path / "backup")).stderr
    services.users.restart()
    lost.check()
    services.users.stop()


def test_after_restore_does_the_same_for_a_database_that_was_restored_by_other_means(
    services: Services, databases: Databases, new_database: NewDatabase
) -> None:
    users = services.users
    users.environment["DATABASE_URL"] = new_database(None)
    users.restart()
    lost = Lost(services)
    users.stop()
    copies = [databases._new_address() for _ in range(2)]
    for copy in copies:
        databases._copy(users.database_url, copy)
    users.restart()
    lost.happen()

    # Without the command, the service accepts what it refuses in `check`.
    users.environment["DATABASE_URL"] = copies[0]
    users.restart()
    with users.client() as client:
        assert client.get("/me", headers=lost.bearer).status_code == 200
        assert client.post("/refresh", json={"refresh_token": lost.refresh_token}).status_code == 200
    assert services.sign_up().id == lost.bob.id
    users.stop()

    users.environment["DATABASE_URL"] = copies[1]
    assert '"message": "database restored"' in run(users, "after-restore").stderr
    users.restart()
    lost.check()
    users.stop()
    databases._drop(copies)
