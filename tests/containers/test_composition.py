"""The running system of docker-compose.yml: who can reach it, its privileges, and the data it keeps."""

import json
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from testkit.processes import Endpoint, Pair, eventually
from tests.containers.composition import DATABASES, SERVICES, Composition, composition, docker
from tests.documents import follow, read
from tests.launcher.launching import copy_of_the_project
from tests.pages import follow as follow_step
from tests.pages import steps

REFUSED = "import socket; socket.create_connection(({!r}, 5432), 3)"


@pytest.mark.parametrize("document", ["README.md", "docs/tour.md"])
def test_the_tour_works(services: Pair, tmp_path: Path, document: str) -> None:
    follow(document, tmp_path, services)


def test_the_file_is_valid_without_a_warning(composed: Composition) -> None:
    assert composed.compose("config", "--quiet") == ""


def test_ports_are_published_on_loopback_and_those_of_the_databases_not_at_all(composed: Composition) -> None:
    for service, inside in zip(SERVICES, ("8001/tcp", "8002/tcp"), strict=True):
        port = {"user-service": composed.services.users, "product-service": composed.services.products}[service].port
        bindings = composed.inspect(service)["HostConfig"]["PortBindings"]
        assert bindings == {inside: [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    for database in DATABASES.values():
        assert not composed.inspect(database)["HostConfig"]["PortBindings"]


def test_a_service_reaches_its_own_database_and_not_the_other_one(composed: Composition) -> None:
    for service, own in DATABASES.items():
        (other,) = set(DATABASES.values()) - {own}
        assert composed.run_inside(service, "python", "-c", REFUSED.format(own)).returncode == 0
        by_name = composed.run_inside(service, "python", "-c", REFUSED.format(other))
        assert "gaierror" in by_name.stdout
        (network,) = composed.inspect(other)["NetworkSettings"]["Networks"].values()
        assert network["IPAddress"]
        by_address = composed.run_inside(service, "python", "-c", REFUSED.format(network["IPAddress"]))
        assert by_address.returncode == 1
        assert "OSError" in by_address.stdout or "TimeoutError" in by_address.stdout
    assert set(composed.inspect("user-database")["NetworkSettings"]["Networks"]) == {
        f"{composed.project}_user-database"
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_without_root_without_privileges_within_limits_and_cannot_change_itself(
    composed: Composition, service: str
) -> None:
    host = composed.inspect(service)["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert 0 < host["Memory"] <= 2**30
    assert 0 < host["NanoCpus"] <= 2 * 10**9
    assert 0 < host["PidsLimit"] <= 1000
    status = composed.run_inside(service, "cat", "/proc/1/status").stdout
    assert "Uid:\t10001\t10001\t10001\t10001\n" in status
    assert "CapEff:\t0000000000000000\n" in status
    for path in ("/opt/service/x", "/usr/local/x", "/etc/x", "/var/x"):
        assert composed.run_inside(service, "touch", path).returncode == 1
    assert composed.run_inside(service, "touch", "/tmp/x").returncode == 0


@pytest.mark.parametrize("database", DATABASES.values())
def test_a_database_is_limited_too_and_is_started_again(composed: Composition, database: str) -> None:
    host = composed.inspect(database)["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    status = composed.run_inside(database, "cat", "/proc/1/status").stdout
    assert "Uid:\t0" not in status
    assert "CapEff:\t0000000000000000\n" in status
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert 0 < host["Memory"] <= 2**30
    assert 0 < host["PidsLimit"] <= 1000


@pytest.mark.parametrize("database", DATABASES.values())
def test_a_service_owns_its_database_and_is_no_superuser(composed: Composition, database: str) -> None:
    rights = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
    assert composed.sql(database, f"SELECT {rights} FROM pg_roles WHERE rolname = current_user") == "f"
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
    assert composed.sql(database, owner) == "service"
    # Without a password, the superuser can't connect over the network.
    superuser = (
        "psql",
        "-U",
        "postgres",
        "-tAc",
        "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'postgres'",
    )
    assert composed.run_inside(database, *superuser).stdout.strip() == "t"


def test_only_the_service_can_read_the_signing_key_in_its_volume(composed: Composition) -> None:
    code = "import os; s = os.stat('/data/secret-key'); print(s.st_mode, s.st_uid, s.st_size)"
    mode, owner, size = map(int, composed.run_inside("user-service", "python", "-c", code).stdout.split())
    assert (stat.S_IMODE(mode), owner) == (0o600, 10001)
    assert size >= 32
    (volume,) = composed.inspect("user-service")["Mounts"]
    assert (volume["Type"], volume["Name"]) == ("volume", f"{composed.project}_user-service-data")
    assert composed.inspect("product-service")["Mounts"] == []


def test_the_sample_passwords_and_the_missing_key_are_refused_in_production(composed: Composition) -> None:
    run = ("run", "--rm", "--no-deps", "-T")
    key = "a key of more than thirty-two bytes for the tests"
    password = "cannot start: the database password is the sample from docker-compose.yml; choose your own"
    for service, given, expected in (
        ("user-service", {}, ("database password", "SECRET_KEY")),
        ("user-service", {"SECRET_KEY": key}, (password,)),
        ("product-service", {}, (password,)),
    ):
        said = composed.compose(*run, service, check=False, ENVIRONMENT="production", **given)
        refusals = [line for line in said.splitlines() if line.startswith("cannot start: ")]
        assert refusals, said
        assert any(text in refusals[0] for text in expected), said
        assert "Traceback" not in said


def test_everything_is_there_again_after_down_and_up(composed: Composition) -> None:
    services = composed.services
    owner = services.sign_up()
    product = services.create_product(owner)
    old = {name: composed.container(name) for name in (*SERVICES, *DATABASES.values())}
    composed.compose("down")
    assert composed.compose("ps", "--all", "--quiet") == ""
    composed.up()
    assert not set(old.values()) & {composed.container(name) for name in old}
    with services.products.client(headers=owner.bearer) as client:
        address = f"/products/{product['id']}"
        assert client.get(address).json() == product
        # The token is good as before, which means that the signing key and the account are those of before.
        assert client.put(address, json={"quantity": 4}).json()["version"] == 2
    assert services.log_in(owner.username, owner.password)


def test_stopping_takes_little_time_and_leaves_no_traceback(composed: Composition) -> None:
    with composed.services.products.client() as client:
        assert client.get("/products").status_code == 200  # A connection that is open and idle.
        try:
            for service in SERVICES:
                composed.compose("stop", "--timeout", "15", service)
                state = composed.inspect(service)["State"]
                assert state["ExitCode"] == 0, state
                log = {"user-service": composed.services.users, "product-service": composed.services.products}[service]
                assert "Application shutdown complete" in log.log
                assert "Traceback" not in log.log
        finally:
            composed.up()


def test_the_composition_with_the_service_of_add_a_service_is_valid(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path / "project")
    for step in steps(read("docs/add-a-service.md")):
        if step.path in ("docker-compose.yml", "review-service/compose.yml"):
            follow_step(step, project)
    assert "review-service" in docker("compose", "config", "--services", folder=project).splitlines()


def test_reads_answer_while_the_user_service_cannot_start(composed: Composition) -> None:
    services = composed.services
    owner = services.sign_up()
    product = services.create_product(owner)
    composed.compose("up", "--detach", "--force-recreate", SECRET_KEY="too short")
    try:
        with services.products.client(headers=owner.bearer) as client:
            eventually(lambda: is_ready(services.products), 60, "the product service is ready")
            assert client.get(f"/products/{product['id']}").json() == product
            assert client.post("/products", json={"name": "A", "price": 1, "quantity": 1}).status_code == 503
        assert "cannot start: SECRET_KEY: must be at least 32 bytes long" in services.users.log
        assert not is_ready(services.users)
    finally:
        composed.up()


def is_ready(service: Endpoint) -> bool:
    with service.client() as client, suppress(httpx.TransportError):
        return client.get("/health/ready").status_code == 200
    return False


def test_settings_come_from_the_environment_and_from_the_env_file_of_a_service(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path / "project")
    (project / "user-service" / ".env").write_text("BCRYPT_COST=13\nPORT=9999\nDATABASE_URL=sqlite:///mine.db\n")
    given: dict[str, Any] = {
        "PASSWORD_MIN_LENGTH": "7",
        "RATE_LIMIT_LOGIN": "10/minute; 50/hour",
        "USER_SERVICE_PORT": "18001",
    }
    text = docker("compose", "config", "--format", "json", check=True, folder=project, **given)
    configured = json.loads(text)["services"]
    users, products = (configured[service]["environment"] for service in SERVICES)
    expected = {**given, "BCRYPT_COST": "13", "PORT": "8001", "LOG_FORMAT": "console", "ENVIRONMENT": "development"}
    del expected["USER_SERVICE_PORT"]
    assert {name: users.get(name) for name in expected} == expected
    assert users["DATABASE_URL"].startswith("postgresql://")
    assert "SECRET_KEY" not in users
    assert products["USER_SERVICE_PUBLIC_URL"] == "http://localhost:18001"
    assert "PASSWORD_MIN_LENGTH" not in products


def test_a_saved_file_restarts_a_service_with_the_reload_file(clean_copy: Path, tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path / "project")
    # The service runs as another user than the one who owns the files.
    subprocess.run(["chmod", "-R", "a+rX", tmp_path], check=True)
    files = "docker-compose.yml:docker-compose.reload.yml"
    with composition(project, COMPOSE_FILE=files, COMPOSE_PATH_SEPARATOR=":") as made:
        made.compose("up", "--detach", "--build", "--wait", "user-service")
        users = made.services.users
        with users.client() as client:
            assert client.get("/openapi.json").json()["info"]["title"] == "User service"
        main = project / "user-service" / "src" / "user_service" / "main.py"
        main.write_text(main.read_text().replace('title="User service"', 'title="Saved"'))

        def has_restarted() -> bool:
            with users.client() as client, suppress(httpx.TransportError):
                return bool(client.get("/openapi.json").json()["info"]["title"] == "Saved")
            return False

        eventually(has_restarted, 60, "the saved file is served")
