"""The profile `gateway` of docker-compose.yml: Traefik in front of both services and an application."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testkit.processes import eventually, free_port
from tests.containers.composition import Composition, composition, docker

ACCOUNT = {"username": "ada", "password": "correct horse battery staple"}
APPLICATION, USERS, PRODUCTS = "app.localhost", "users.localhost", "products.localhost"


def request(
    behind: Composition, method: str, host: str, path: str, headers: dict[str, str], **options: Any
) -> httpx.Response:
    """Send a request to a host behind the gateway, whose certificate is its own."""
    with httpx.Client(verify=False, trust_env=False, timeout=30) as client:  # noqa: S501 - made by itself
        return client.request(
            method,
            f"https://127.0.0.1:{behind.settings['GATEWAY_PORT']}{path}",
            headers={"Host": host, **headers},
            extensions={"sni_hostname": host},
            **options,
        )


@pytest.fixture(scope="module")
def behind(clean_copy: Path) -> Iterator[Composition]:
    """The system with its gateway, started as docs/gateways.md says."""
    settings = {
        "COMPOSE_FILE": "docker-compose.yml:tests/containers/gateway_stand_ins.yml",
        "COMPOSE_PROFILES": "gateway",
        "GATEWAY_PORT": str(free_port()),
        "TRUSTED_PROXIES": "172.16.0.0/12,192.168.0.0/16",
        "LOG_FORMAT": "json",
    }
    with composition(clean_copy, **settings) as made:
        made.up()
        eventually(lambda: request(made, "GET", PRODUCTS, "/health/ready", {}).status_code == httpx.codes.OK)
        yield made


def test_the_application_learns_the_caller_from_the_gateway_alone(behind: Composition) -> None:
    spoofed = {"X-Auth-Username": "root", "X_Auth_Roles": "admin"}
    assert request(behind, "GET", APPLICATION, "/", spoofed).status_code == httpx.codes.UNAUTHORIZED
    request(behind, "POST", USERS, "/register", {}, json=ACCOUNT).raise_for_status()
    token = request(behind, "POST", USERS, "/login", {}, json=ACCOUNT).json()["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    seen = request(behind, "GET", APPLICATION, "/", {**spoofed, **bearer}).json()["headers"]
    headers = [(name.lower().replace("_", "-"), value) for name, value in seen]
    assert [value for name, value in headers if name == "x-auth-username"] == ["ada"]
    assert ("x-auth-roles", "admin") not in headers


def test_both_services_answer_behind_the_gateway(behind: Composition) -> None:
    assert request(behind, "GET", PRODUCTS, "/products", {}).status_code == httpx.codes.OK
    assert request(behind, "GET", USERS, "/me", {}).status_code == httpx.codes.UNAUTHORIZED
    assert request(behind, "POST", USERS, "/introspect", {}, data={"token": "x"}).status_code == httpx.codes.NOT_FOUND


def test_the_user_service_knows_the_address_of_the_client(behind: Composition) -> None:
    name = "address-of-the-client"
    claimed = {"X-Forwarded-For": "203.0.113.66", "X-Request-ID": name}
    request(behind, "GET", USERS, "/me", claimed)
    container = behind.container("user-service")
    line = eventually(lambda: next((each for each in docker("logs", container).splitlines() if name in each), None))
    (network,) = behind.inspect("gateway")["NetworkSettings"]["Networks"].values()
    assert json.loads(line)["ip"] == network["Gateway"]


def test_the_gateway_and_the_application_have_no_rights(behind: Composition) -> None:
    for name in ("gateway", "application"):
        details = behind.inspect(name)
        assert details["HostConfig"]["ReadonlyRootfs"]
        assert details["HostConfig"]["CapDrop"] == ["ALL"]
        assert details["Config"]["User"] == "65532"
