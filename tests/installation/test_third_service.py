"""What one more line in the list of services brings, with stand-ins for all services."""

import json
import re
from pathlib import Path

import pytest

from tests.launcher.launching import (
    SERVICES,
    Terminal,
    copy_with_standins,
    environment_of,
    free_ports,
    install_standins,
    posix_only,
    processes_of,
)

pytestmark = posix_only
REVIEW = "review-service"


@pytest.fixture(scope="module")
def three_services(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-ins, and a third service with its line in the list."""
    tree = copy_with_standins(tmp_path_factory.mktemp("launcher") / "three services", (*SERVICES, REVIEW))
    return install_standins(tree)


def test_up_installs_and_starts_a_third_service(three_services: Path, terminal: Terminal) -> None:
    user, product, review = free_ports(3)
    words = ("--user-port", user, "--product-port", product, "--review-port", review)
    started = terminal.dev(three_services, "up", *words, "--data-dir", terminal.folder, SECRET_KEY="a key")
    started.prints("Press Ctrl-C to stop")
    assert f"review-service   http://localhost:{review}/docs" in started.output
    assert "review  | listening" in started.output
    environment = environment_of(review)
    assert environment["DATA_DIR"] == str(terminal.folder / REVIEW)
    assert environment["USER_SERVICE_URL"] == f"http://127.0.0.1:{user}"
    assert "SECRET_KEY" not in environment
    started.press_ctrl_c()
    assert started.status() == 130
    assert (terminal.folder / REVIEW / "signals").read_text().split() == ["SIGTERM"]
    assert processes_of(three_services) == []
    assert f"{REVIEW}/pyproject.toml" in json.loads((three_services / ".venv" / "installed.json").read_text())


def test_ports_of_a_third_service_are_checked(three_services: Path, terminal: Terminal) -> None:
    line = terminal.refused(three_services, "up", "--user-port", 8003)
    assert line == "dev.py: Port 8003 can't serve both: choose another with --user-port or --review-port."


def test_every_command_knows_a_third_service(three_services: Path, terminal: Terminal) -> None:
    def output(*words: str, status: int = 0) -> str:
        started = terminal.dev(three_services, *words)
        assert started.status() == status, started.output
        return started.output

    help_of_up = " ".join(output("up", "--help").split())
    assert "--review-port N the port of the review-service, 8003 by default" in help_of_up
    for command in ("serve", "manage", "revision"):
        assert "user-service or product-service or review-service" in " ".join(output(command, "--help").split())

    assert output("manage", REVIEW, status=6).endswith("manage ['--help'] in review-service\n")
    assert output("revision", REVIEW, "rate", status=4).endswith("revision ['revision', 'rate']\n")
    output("migrate", "--data-dir", str(terminal.folder / "all"))
    assert (terminal.folder / "all" / REVIEW / "migrated").exists()
    output("openapi")
    assert (three_services / REVIEW / "openapi.json").is_file()
    checked = output("check")
    assert "mypy ['review-service/src', 'review-service/tests'] in" in checked
    assert "'review-service/Dockerfile'" in checked
    locked = output("lock")
    assert re.search(r"'review-service/pyproject.toml', .*'-o', 'requirements-dev.txt'\]", locked)
    assert "'-o', 'review-service/requirements.txt']" in locked


def test_serve_starts_a_third_service(three_services: Path, terminal: Terminal) -> None:
    (port,) = free_ports(1)
    started = terminal.dev(three_services, "serve", REVIEW, PORT=port)
    started.serves(port)
    assert environment_of(port)["PID"] == started.process.pid
