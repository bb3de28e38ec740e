"""The running system of docker-compose.yml: who can reach it, its privileges, and the data it keeps."""

import stat
from pathlib import Path

import pytest

from testkit.processes import Pair
from tests.containers.composition import DATABASES, SERVICES, Composition, docker
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
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert 0 < host["Memory"] <= 2**30
    assert 0 < host["PidsLimit"] <= 1000


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
    password = "cannot start: DATABASE_URL has the sample password of docker-compose.yml; choose your own"
    for service, given, expected in (
        ("user-service", {}, ("DATABASE_URL", "SECRET_KEY")),
        ("user-service", {"SECRET_KEY": key}, (password,)),
        ("user-service", {"USER_DATABASE_PASSWORD": "one-of-our-own"}, ("cannot start: SECRET_KEY must be set",)),
        (
            "user-service",
            {"USER_DATABASE_PASSWORD": "one-of-our-own", "SECRET_KEY": key},
            ("cannot start: SERVICE_KEYS contains the key from docker-compose.yml. Generate your own key",),
        ),
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
                assert state["ExitCode"] in (0, 143), state
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
