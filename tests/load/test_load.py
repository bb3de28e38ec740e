"""That both load tests fail when they should, and wait when a limit wants that."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.load.run import K6, LOCUST
from testkit.processes import Services, running_services
from tools.environment import install_tools


@pytest.fixture(scope="session")
def programs() -> Path:
    return install_tools("load")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Both services, which let an account write once a second."""
    with running_services(tmp_path_factory.mktemp("services"), RATE_LIMIT_WRITES="1/second") as services:
        yield services


def run(programs: Path, tool: str, users: str, products: str) -> subprocess.CompletedProcess[str]:
    words = [f"--programs={programs}", f"--with={tool}", "--seconds=12", "--users=10"]
    words += [f"--user-service={users}", f"--product-service={products}"]
    command = [sys.executable, "-m", "bench.load.run", *words]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


@pytest.mark.parametrize(("tool", "shown"), [(LOCUST, "(429)"), (K6, "throttled_responses")])
def test_clients_wait_for_a_limit(programs: Path, services: Services, tool: str, shown: str) -> None:
    ended = run(programs, tool, services.users.url, services.products.url)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert shown in ended.stdout + ended.stderr
    assert "All responses were expected." in ended.stdout


@pytest.mark.parametrize("tool", [LOCUST, K6])
def test_an_unexpected_status_fails_the_run(programs: Path, services: Services, tool: str) -> None:
    ended = run(programs, tool, services.users.url, services.users.url)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "404" in ended.stdout + ended.stderr


def test_a_service_that_does_not_respond_is_no_result(programs: Path) -> None:
    ended = run(programs, K6, "http://127.0.0.1:9", "http://127.0.0.1:9")
    assert ended.returncode == 2
    assert "the user service does not respond" in ended.stderr
