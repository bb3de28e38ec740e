"""The system of compose.production.yml, behind a real Caddy, with a real Valkey."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from testkit.processes import eventually, free_port
from tests.containers.composition import SERVICES, Composition, composition, docker
from tools.production import write_secrets

PASSWORD = "correct horse battery staple"
ACCOUNT = {"username": "ada", "password": PASSWORD}
UGLY_PASSWORD = "p@ss/w:rd 100%41#?&'"
FILES = "compose.production.yml:tests/containers/stand_ins.yml"
HOSTS = {"user-service": "users.localhost", "product-service": "products.localhost"}


class Production(Composition):
    """The whole system behind its gateway."""

    def __init__(self, folder: Path, secrets: Path) -> None:
        self.https_port = free_port()
        ports = {"HTTP_PORT": str(free_port()), "HTTPS_PORT": str(self.https_port)}
        hosts = {"USERS_HOST": HOSTS["user-service"], "PRODUCTS_HOST": HOSTS["product-service"]}
        subnet = f"10.213.{self.https_port % 250}.0/24"
        super().__init__(folder, COMPOSE_FILE=FILES, SECRETS_DIR=str(secrets), GATEWAY_SUBNET=subnet, **ports, **hosts)

    def client(self, service: str) -> httpx.Client:
        """A client of a service, through the gateway. It trusts the gateway's own authority."""
        root = "/data/caddy/pki/authorities/local/root.crt"
        authority = eventually(lambda: self.compose("exec", "-T", "gateway", "cat", root, check=False))
        context = ssl.create_default_context(cadata=authority)
        # By address: not every system resolves names below localhost.
        client = httpx.Client(
            base_url=f"https://127.0.0.1:{self.https_port}",
            headers={"Host": HOSTS[service]},
            verify=context,
            trust_env=False,
            timeout=30,
        )
        client.event_hooks["request"] = [lambda request: request.extensions.update(sni_hostname=HOSTS[service])]
        return client

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--all", "--quiet", service).split()


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("production") / "secrets"
    folder.mkdir()
    (folder / "user_database_password").write_text(UGLY_PASSWORD, encoding="utf-8")
    (folder / "user_database_password").chmod(0o444)
    write_secrets(folder)
    return folder


@pytest.fixture(scope="module")
def production(clean_copy: Path, secrets: Path) -> Iterator[Production]:
    made = Production(clean_copy, secrets)
    try:
        made.up()
        yield made
    finally:
        made.compose("down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "5")


def test_host_names_are_demanded_at_once(clean_copy: Path) -> None:
    with composition(clean_copy) as nothing:
        said = nothing.compose("config", "--quiet", check=False, COMPOSE_FILE=FILES)
    assert "USERS_HOST" in said
    assert "PRODUCTS_HOST" in said


def test_a_protected_call_passes_the_gateway_with_tls(production: Production) -> None:
    with production.client("user-service") as users, production.client("product-service") as products:
        assert users.post("/register", json=ACCOUNT).status_code == 201
        token = users.post("/login", json=ACCOUNT).json()["access_token"]
        draft = {"name": "Desk lamp", "price": "19.99", "currency": "EUR", "quantity": 3}
        created = products.post("/products", json=draft, headers={"Authorization": f"Bearer {token}"})
        assert created.status_code == 201
        assert products.get(created.headers["Location"]).json()["name"] == "Desk lamp"
        # The operations for services and gateways are not for the public.
        for path in ("/validate-token", "/introspect", "/forward-auth", "/forward-auth/x"):
            assert users.post(path, json={"token": token}).status_code == 404
        origin = {"Origin": f"https://{HOSTS['product-service']}"}
        assert users.get("/health/live", headers=origin).headers["Access-Control-Allow-Origin"] == origin["Origin"]


def test_both_replicas_serve_and_know_the_address_of_the_client(production: Production) -> None:
    addresses: set[object] = set()
    with production.client("product-service") as products:

        def served_by_both() -> bool:
            products.get("/products", headers={"X-Forwarded-For": "203.0.113.66"}).raise_for_status()
            logs = [production_log(container) for container in production.containers("product-service")]
            addresses.update(line["ip"] for lines in logs for line in lines if line.get("route") == "/products")
            return all(any(line.get("route") == "/products" for line in lines) for lines in logs)

        eventually(served_by_both)
    # Not an address that a client made up, and not that of the gateway.
    assert "203.0.113.66" not in addresses
    gateway = json.loads(docker("inspect", production.container("gateway")))[0]["NetworkSettings"]["Networks"]
    assert addresses.isdisjoint(network["IPAddress"] for network in gateway.values())


def production_log(container: str) -> list[dict[str, object]]:
    lines = docker("logs", container).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_reads_go_on_while_a_replica_is_dead(production: Production) -> None:
    victim, _ = production.containers("product-service")
    with production.client("product-service") as products:
        products.get("/products").raise_for_status()
        docker("pause", victim)
        docker("kill", victim)
        for _ in range(20):
            assert products.get("/products").status_code == 200
    production.compose("up", "--detach", "--wait")


def test_limits_are_shared_by_the_replicas(production: Production) -> None:
    with production.client("user-service") as users:
        wrong = {**ACCOUNT, "username": "grace", "password": "not the password"}
        statuses = [users.post("/login", json=wrong).status_code for _ in range(15)]
    # Ten in a minute, however many replicas count.
    assert statuses.count(401) == 10
    assert statuses[-1] == 429


def test_no_secret_is_in_the_configuration_or_the_log(production: Production, secrets: Path) -> None:
    values = [path.read_text().partition(":")[2] or path.read_text() for path in secrets.iterdir()]
    shown = production.compose("logs") + production.compose("config")
    shown += "".join(docker("inspect", container) for container in production.compose("ps", "-aq").split())
    assert not [value for value in values if value and value in shown]
    for service in SERVICES:
        assert production.run_inside(service, "ls", "-A", "/data").stdout == ""


def test_logs_rotate_and_containers_have_no_rights(production: Production) -> None:
    for container in production.compose("ps", "-aq").split():
        config = json.loads(docker("inspect", container))[0]["HostConfig"]
        assert config["LogConfig"]["Config"]["max-file"] == "5"
        assert config["CapDrop"] == ["ALL"]
        assert config["RestartPolicy"]["Name"] == "unless-stopped"


def test_a_wrong_password_of_the_database_is_named(production: Production, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    write_secrets(folder)
    said = production.compose("run", "--rm", "-T", "user-service", check=False, SECRETS_DIR=str(folder))
    (line,) = [line for line in said.splitlines() if line.startswith("cannot start: ")]
    assert line == (
        "cannot start: the database rejects the password of DATABASE_URL or DATABASE_PASSWORD. "
        "The volume of a PostgreSQL container keeps the password that it was created with"
    )


def test_empty_secrets_are_all_named(production: Production, secrets: Path, tmp_path: Path) -> None:
    for each in secrets.iterdir():
        (tmp_path / each.name).touch()
    said = production.compose("run", "--rm", "-T", "user-service", check=False, SECRETS_DIR=str(tmp_path))
    assert "cannot start: SECRET_KEY must be set in production" in said
