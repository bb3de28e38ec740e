"""Signals, exit status and orphans: what the first process of a container does for the service.

Most tests run a program of a few lines behind the image's real entry point: it is mounted into the container as a
module with the name of the service, and is found before the real one.
"""

import json
import os
import pty
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chassis.database.migrations import _ADVISORY_LOCK
from testkit.processes import eventually
from tests.containers.composition import SERVICES, Composition, attempt, docker

# With `--init`, as in a Kubernetes pod with `shareProcessNamespace`, the image's init is not the first process.
each_init = pytest.mark.parametrize("options", [[], ["--init"]], ids=["without --init", "with --init"])
PRINT_SIGNALS = """
import signal, sys, time
received = []
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: received.append(signal.Signals(number).name))
print("waiting", flush=True)
while not {"SIGINT", "SIGTERM"} & set(received):
    time.sleep(0.01)
time.sleep(1)  # A second signal would arrive within this time.
print("received", *received, flush=True)
sys.exit(7)
"""
# Two signals that arrive together can count as one, but a process group of its own is certain to get only one.
PRINT_GROUP = "import os; print('on its own', os.tcgetpgrp(0) == os.getpgrp() == os.getpid())"
Mount = Callable[[str], list[str]]


@contextmanager
def detached(*words: str) -> Iterator[str]:
    """A container that runs in the background, removed afterwards."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    docker("run", "--detach", "--name", name, *words)
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def log_has(container: str, text: str) -> None:
    eventually(lambda: text in docker("logs", container), 30, text)


def stopped(container: str) -> tuple[int, str]:
    """Stop a container, which has to take no time; its exit status and its log."""
    started = time.monotonic()
    docker("stop", "--time", "30", container)
    assert time.monotonic() - started < 10
    state = json.loads(docker("inspect", container))[0]["State"]
    return state["ExitCode"], docker("logs", container)


@pytest.fixture
def mount(composed: Composition, tmp_path: Path) -> Mount:
    """The arguments of `docker run` for a program in place of the product service, in the image of that service."""
    folder = tmp_path / "program"
    folder.mkdir()
    folder.chmod(0o755)

    def mount(program: str) -> list[str]:
        (folder / "product_service.py").write_text(program, encoding="utf-8")
        volume = f"{folder}:/program:ro"
        return ["--volume", volume, "--env", "PYTHONPATH=/program", composed.image("product-service")]

    return mount


@pytest.mark.parametrize("service", SERVICES)
def test_an_init_is_the_first_process_with_and_without_compose(composed: Composition, service: str) -> None:
    started_by_compose = composed.run_inside(service, "cat", "/proc/1/comm").stdout
    with detached("--env", "ENVIRONMENT=development", composed.image(service)) as container:
        started_alone = docker("exec", container, "cat", "/proc/1/comm")
    # Docker's own init, which would add nothing in front of it, has the name docker-init.
    assert (started_by_compose.strip(), started_alone) == ("tini", "tini")


@each_init
@pytest.mark.parametrize(
    ("program", "status"),
    [("pass", 0), ("raise SystemExit(2)", 2), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_a_container_has_the_exit_status_of_its_service_and_no_other_output(
    mount: Mount, options: list[str], program: str, status: int
) -> None:
    result = attempt("run", "--rm", *options, *mount(program))
    assert (result.returncode, result.stdout) == (status, "")


@each_init
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_reaches_the_service_once(mount: Mount, options: list[str], name: str) -> None:
    with detached(*options, *mount(PRINT_SIGNALS)) as container:
        log_has(container, "waiting")
        docker("kill", "--signal", "SIGHUP", container)
        docker("kill", "--signal", name, container)
        assert docker("wait", container) == "7"
        assert docker("logs", container).split()[1:] == ["received", "SIGHUP", name]


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
@each_init
def test_ctrl_c_on_a_terminal_reaches_the_service_once(mount: Mount, options: list[str]) -> None:
    terminal, ours = pty.openpty()
    name = f"test-{uuid.uuid4().hex[:12]}"
    with ExitStack() as cleanup:
        cleanup.callback(docker, "rm", "--force", "--volumes", name, check=False)
        command = ["docker", "run", "--interactive", "--tty", "--name", name, *options]
        command += mount(PRINT_GROUP + PRINT_SIGNALS)
        client = cleanup.enter_context(subprocess.Popen(command, stdin=ours, stdout=ours, stderr=ours))
        cleanup.callback(client.kill)
        eventually(lambda: "waiting" in docker("logs", name, check=False), 30, "waiting")
        os.write(terminal, b"\x03")
        assert client.wait(30) == 7
        log = docker("logs", name)
        assert log.startswith("on its own True")
        assert log.endswith("received SIGINT")  # After the terminal's echo, ^C.
    os.close(terminal)
    os.close(ours)


@each_init
def test_a_service_without_a_handler_for_a_signal_is_ended_by_it(mount: Mount, options: list[str]) -> None:
    """As while it is being imported, or waits in the database's driver, where Python's handlers would not run."""
    with detached(*options, *mount("print('busy'); import time; time.sleep(60)")) as container:
        log_has(container, "busy")
        assert stopped(container) == (143, "busy")


@each_init
def test_orphans_are_reaped(mount: Mount, options: list[str]) -> None:
    with detached(*options, *mount("print('busy'); import time; time.sleep(60)")) as container:
        log_has(container, "busy")
        docker("exec", container, "sh", "-c", "sleep 1 > /dev/null 2>&1 &")
        # `docker top` would not show a process that has ended and has not been reaped.
        processes = ("exec", container, "sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null")
        assert "sleep" in attempt(*processes).stdout
        eventually(lambda: "sleep" not in attempt(*processes).stdout, 20, "the orphan is gone")
        # The service is still there: an orphan that ends does not end the container.
        assert "python" in attempt(*processes).stdout


@each_init
def test_a_container_stops_at_once_at_any_time(composed: Composition, options: list[str]) -> None:
    image = composed.image("product-service")
    sqlite = ("--tmpfs", "/data:uid=10001", "-e", "ENVIRONMENT=development")
    words = (*options, "--read-only", *sqlite, "--cap-drop", "ALL", image)
    with detached(*words) as container:  # While it is being imported, or before.
        status, log = stopped(container)
        assert status in (0, 143)
        assert "Traceback" not in log
    with detached(*words) as container:
        check = ("exec", container, "python", "-m", "chassis.process.probe")
        eventually(lambda: attempt(*check).returncode == 0, 60, "ready")
        status, log = stopped(container)
        assert status == 0
        assert "Application shutdown complete" in log
        assert [line for line in log.splitlines() if not line.startswith("{")] == []


def test_a_container_that_waits_for_the_migration_of_another_one_stops_at_once(composed: Composition) -> None:
    database = composed.container("product-database")
    blocker = f"SELECT pg_advisory_lock({_ADVISORY_LOCK}), pg_sleep(300)"
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND {}"
    # A database that has to be migrated: the service takes the lock for nothing else.
    as_superuser = ("psql", "-U", "postgres", "-d", "postgres", "-c")
    docker("exec", database, *as_superuser, "CREATE DATABASE waiting OWNER service")
    docker("exec", "--detach", database, "psql", "-U", "postgres", "-d", "waiting", "-c", blocker)
    try:
        eventually(lambda: composed.sql("product-database", locks.format("granted")) == "1", 30, "the lock is held")
        url = "DATABASE_URL=postgresql://service:development-only@product-database/waiting"
        network = f"{composed.project}_product-database"
        words = ("--network", network, "-e", "ENVIRONMENT=development", "-e", url, composed.image("product-service"))
        with detached(*words) as container:
            eventually(lambda: composed.sql("product-database", locks.format("NOT granted")) == "1", 30, "it waits")
            status, log = stopped(container)
            assert status == 143
            assert "Traceback" not in log
    finally:
        docker("exec", database, *as_superuser, "DROP DATABASE waiting WITH (FORCE)")
