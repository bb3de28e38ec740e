"""The project itself, from a fresh copy to running services."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy import make_url

from testkit.databases import NewDatabase
from tests.launcher.launching import (
    SERVICES,
    Started,
    Terminal,
    copy_of_the_project,
    free_ports,
    is_ready,
    posix_only,
    processes_of,
    request,
)

pytestmark = posix_only


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_project(tmp_path_factory.mktemp("launcher") / "a folder with spaces")


@pytest.fixture(scope="session")
def first_start(project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Started], list[int]]:
    """Run both start scripts at once in a copy without .venv; stop them by process id once both services answer."""
    terminal = Terminal(tmp_path_factory.mktemp("terminal"))
    ports = list(free_ports())
    try:
        for service, port in zip(SERVICES, ports, strict=True):
            terminal.start(project / f"start-{service}.sh", PORT=port)
        for started, port in zip(terminal.started, ports, strict=True):
            started.serves(port)
        for started in terminal.started:
            started.process.terminate()
        for started in terminal.started:
            started.status()
    finally:
        terminal.close()
    return terminal.started, ports


def test_two_start_scripts_at_once_install_one_after_the_other(
    first_start: tuple[list[Started], list[int]],
) -> None:
    outputs = [started.output for started in first_start[0]]
    assert "".join(outputs).count("Making .venv") == 1
    assert "".join(outputs).count("Installing") == 2
    assert "".join(outputs).count("Waiting for another dev.py") == 1


def test_a_signal_to_a_start_script_stops_its_service(
    first_start: tuple[list[Started], list[int]], project: Path
) -> None:
    assert [started.process.returncode for started in first_start[0]] in ([0, 0], [-signal.SIGTERM] * 2)
    assert not any(map(is_ready, first_start[1]))
    assert processes_of(project) == []


@pytest.mark.usefixtures("first_start")
def test_up_on_an_installed_copy_connects_both_services_within_seconds(project: Path, terminal: Terminal) -> None:
    begun = time.monotonic()
    started, user, product = terminal.up(project, "--data-dir", terminal.folder / "data", BCRYPT_COST=4)
    assert time.monotonic() - begun < 15
    assert "Installing" not in started.output
    for port in (user, product):
        assert f"http://localhost:{port}/docs" in started.output
        assert request(port, "GET", "/docs")[0] == 200
    for service in SERVICES:
        assert any((terminal.folder / "data" / service).iterdir())

    suggested = next(line for line in started.output.splitlines() if line.startswith("  curl "))
    answer = subprocess.run(["sh", "-c", suggested], capture_output=True, text=True, check=True).stdout
    assert json.loads(answer)["username"] == "maria"
    account = {"username": "maria", "password": "correct horse battery staple"}
    token = request(user, "POST", "/login", account)[1]["access_token"]
    lamp = {"name": "Lamp", "price": "19.99", "quantity": 1}
    assert request(product, "POST", "/products", lamp, token)[0] == 201

    seeded = terminal.dev(project, "seed", "--user-port", user, "--product-port", product)
    assert seeded.status() == 0, seeded.output
    assert len(request(product, "GET", "/products?limit=100")[1]) > 24

    begun = time.monotonic()
    started.press_ctrl_c()
    assert started.status() == 128 + signal.SIGINT
    assert time.monotonic() - begun < 5
    assert started.last_line == "Stopped by SIGINT."
    assert processes_of(project) == []
    assert not any(map(is_ready, (user, product)))


@pytest.mark.usefixtures("first_start")
def test_a_start_script_works_in_any_current_folder(project: Path, terminal: Terminal) -> None:
    port, _ = free_ports()
    script = os.path.relpath(project / "start-user-service.sh", terminal.folder)
    started = terminal.start(script, PORT=port, DATABASE_URL="sqlite:///other.db")
    started.serves(port)
    assert (project / "user-service" / "other.db").is_file()
    started.process.terminate()
    started.status()
    assert processes_of(project) == []


@pytest.mark.usefixtures("first_start")
def test_a_start_script_shows_what_is_wrong_with_a_setting(project: Path, terminal: Terminal) -> None:
    started = terminal.start(project / "start-user-service.sh", PORT="eighty")
    assert started.status() == 2
    assert "PORT" in started.last_line
    assert "Traceback" not in started.output


@pytest.mark.postgresql
def test_a_start_script_accepts_a_plain_postgresql_url(
    first_start: tuple[list[Started], list[int]], project: Path, terminal: Terminal, new_database: NewDatabase
) -> None:
    address = make_url(new_database(None)).set(drivername="postgresql").render_as_string(hide_password=False)
    assert address.startswith("postgresql://postgres:")
    port, _ = free_ports()
    data = terminal.folder / "data"
    started = terminal.start(project / "start-user-service.sh", DATABASE_URL=address, PORT=port, DATA_DIR=data)
    started.serves(port)
    account = {"username": "maria", "password": "correct horse battery staple"}
    assert request(port, "POST", "/register", account)[0] == 201
    assert [file.name for file in data.iterdir()] == ["secret-key"]
    assert address not in started.output
