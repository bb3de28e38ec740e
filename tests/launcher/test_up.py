"""`dev.py up`: the environment it gives to the services, and how it stops them."""

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.launcher.launching import (
    SERVICES,
    Terminal,
    environment_of,
    free_ports,
    is_ready,
    ports_for_up,
    posix_only,
    processes_of,
    signals_of,
    until,
)

pytestmark = posix_only


def test_ctrl_c_reaches_each_service_once_and_stops_all_processes(standin: Path, terminal: Terminal) -> None:
    started, *_ = terminal.up(standin, "--data-dir", terminal.folder)
    started.press_ctrl_c()
    assert started.status() == 130
    assert signals_of(terminal.folder) == [["SIGTERM"], ["SIGTERM"]]
    assert started.output.count("| bye") == 2
    assert started.output.endswith("Stopped by SIGINT.\n")
    assert "Traceback" not in started.output
    assert processes_of(standin) == []


def test_a_second_ctrl_c_changes_nothing(standin: Path, terminal: Terminal) -> None:
    started, *_ = terminal.up(standin, "--data-dir", terminal.folder)
    started.press_ctrl_c()
    started.prints("Stopping")
    started.press_ctrl_c()
    assert started.status() == 130
    assert signals_of(terminal.folder) == [["SIGTERM"], ["SIGTERM"]]
    assert "Traceback" not in started.output
    assert processes_of(standin) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_sigterm_and_sighup_stop_both_services(name: str, standin: Path, terminal: Terminal) -> None:
    number = signal.Signals[name]
    started, *_ = terminal.up(standin, "--data-dir", terminal.folder)
    started.process.send_signal(number)
    assert started.status() == 128 + number
    assert started.last_line == f"Stopped by {name}."
    assert signals_of(terminal.folder) == [["SIGTERM"], ["SIGTERM"]]
    assert processes_of(standin) == []


def test_when_one_service_dies_the_other_is_stopped(standin: Path, terminal: Terminal) -> None:
    started, _, product = terminal.up(standin, "--data-dir", terminal.folder)
    os.kill(environment_of(product)["PID"], signal.SIGKILL)
    assert started.status() == 1
    assert started.last_line == "dev.py: The product-service stopped by itself (status -9)."
    assert (terminal.folder / "user-service" / "signals").read_text().split() == ["SIGTERM"]
    assert not (terminal.folder / "product-service" / "signals").exists()
    assert processes_of(standin) == []
    assert not is_ready(product)


def test_the_error_of_a_service_that_cannot_start_is_shown(standin: Path, terminal: Terminal) -> None:
    line = terminal.refused(standin, "up", *ports_for_up(), STANDIN_USER="refuse to start")
    assert line == "dev.py: The user-service stopped by itself (status 2)."
    assert "user    | cannot start: as told\n" in terminal.started[0].output
    assert processes_of(standin) == []


def test_a_service_that_ignores_the_signal_is_killed_with_its_workers(standin: Path, terminal: Terminal) -> None:
    user, product = free_ports()
    words = ["up", "--user-port", str(user), "--product-port", str(product), "--data-dir", str(terminal.folder)]
    started = terminal.changed(standin, "processes.STOP_WITHIN = 1", *words, STANDIN_PRODUCT="ignore signals")
    started.prints("Press Ctrl-C to stop")
    started.press_ctrl_c()
    assert started.status() == 130
    assert "The product-service did not stop within 1 s. Killing it." in started.output
    assert signals_of(terminal.folder) == [["SIGTERM"], ["SIGTERM"]]
    until(lambda: "time.sleep(600)" not in "".join(processes_of(standin)), "the worker is gone")


def test_a_service_that_never_becomes_ready_is_named(standin: Path, terminal: Terminal) -> None:
    started = terminal.changed(
        standin, "processes.READY_WITHIN = 1", "up", *ports_for_up(), STANDIN_PRODUCT="never be ready"
    )
    assert started.status() == 1
    assert re.fullmatch(r"dev.py: The product-service was not ready at port \d+ within 1 s.", started.last_line)
    assert processes_of(standin) == []


@pytest.mark.parametrize(("taken", "option"), [(0, "--user-port"), (1, "--product-port")])
def test_a_taken_port_is_named_with_the_option_to_choose_another(
    taken: int, option: str, standin: Path, terminal: Terminal
) -> None:
    ports = free_ports()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports[taken]))
        listener.listen()
        line = terminal.refused(standin, "up", "--user-port", ports[0], "--product-port", ports[1])
    assert line.startswith(f"dev.py: The {SERVICES[taken]} can't use port {ports[taken]} (")
    assert line.endswith(f": choose another with {option}.")


def test_the_port_of_a_stopped_service_is_free_at_once(standin: Path, terminal: Terminal) -> None:
    ports = free_ports()
    words = ("up", "--user-port", ports[0], "--product-port", ports[1])
    for _ in range(2):
        started = terminal.dev(standin, *words)
        started.prints("Press Ctrl-C to stop")
        started.press_ctrl_c()
        assert started.status() == 130


def test_one_port_for_both_services_is_rejected(standin: Path, terminal: Terminal) -> None:
    line = terminal.refused(standin, "up", "--user-port", 8002)
    assert line == "dev.py: Port 8002 can't serve both: choose another with --user-port or --product-port."


@pytest.mark.parametrize("command", ["up", "migrate"])
def test_one_database_for_both_services_is_rejected(command: str, standin: Path, terminal: Terminal) -> None:
    line = terminal.refused(standin, command, DATABASE_URL="sqlite:///shared.db")
    assert "DATABASE_URL" in line
    assert ".env" in line


def test_up_sets_ports_data_folders_and_addresses(standin: Path, terminal: Terminal) -> None:
    _, user, product = terminal.up(standin, "--data-dir", "kept here", PORT=1, DATABASE_URL="", HOST="127.0.0.1")
    for port, service in zip((user, product), SERVICES, strict=True):
        environment = environment_of(port)
        assert environment["PORT"] == str(port)
        assert environment["DATA_DIR"] == str(terminal.folder / "kept here" / service)
        assert environment["USER_SERVICE_URL"] == f"http://127.0.0.1:{user}"
        assert environment["USER_SERVICE_PUBLIC_URL"] == f"http://localhost:{user}"
        assert environment["MIGRATE_ON_START"] == "true"


def test_up_keeps_the_settings_of_the_caller(standin: Path, terminal: Terminal) -> None:
    settings = {"ALLOWED_ORIGINS": "https://shop.example", "USER_SERVICE_PUBLIC_URL": "https://users.example"}
    _, _, product = terminal.up(standin, DATA_DIR="data of both", **settings)
    environment = environment_of(product)
    assert {name: environment[name] for name in settings} == settings
    assert environment["DATA_DIR"] == str(terminal.folder / "data of both" / "product-service")


def test_up_ends_with_what_to_try_next(standin: Path, terminal: Terminal) -> None:
    started, user, product = terminal.up(standin)
    assert f"\n  python3 dev.py seed --user-port {user} --product-port {product}\n" in started.output
    assert f"\n  curl http://localhost:{user}/register " in started.output


def test_up_with_reload_watches_the_code_of_a_service_and_of_its_libraries(standin: Path, terminal: Terminal) -> None:
    started = terminal.dev(standin, "up", *ports_for_up(), "--reload")
    assert started.status() == 1
    # The stand-ins do not know the command: the first one that ends stops the other.
    for service in SERVICES:
        folders = (service, "libs/auth-client", "libs/chassis")
        words = ["serve", *(f"--reload={standin / folder / 'src'}" for folder in folders)]
        if f"| manage {words} in {service}\n" in started.output:
            return
    pytest.fail(started.output)


def test_log_lines_are_labelled_and_may_hold_any_bytes(standin: Path, terminal: Terminal) -> None:
    started, *_ = terminal.up(standin)
    for mark in ("user    | ", "product | "):
        assert f"{mark}listening, \N{REPLACEMENT CHARACTER} \N{LATIN SMALL LETTER E WITH ACUTE}\n" in started.output


def test_a_terminal_with_a_narrow_encoding_gets_question_marks(standin: Path, terminal: Terminal) -> None:
    started, *_ = terminal.up(standin, PYTHONIOENCODING="ascii")
    assert "user    | listening, ? ?\n" in started.output
    started.press_ctrl_c()
    assert started.status() == 130
