"""METRICS_PORT: what real services serve there, with one worker and with two that are killed and replaced."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from testkit import preloaded
from testkit.metrics import scrape
from testkit.processes import Service, eventually, free_port
from user_service import __version__

LAST_BACKUP = "last_backup_timestamp_seconds"
REQUESTS = "http_server_request_duration_seconds_count"
Make = Callable[..., tuple[Service, int]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes user services with metrics, and stops them after the test."""
    with ExitStack() as cleanup:

        def make(**environment: str) -> tuple[Service, int]:
            port = free_port()
            service = Service("user-service", tmp_path, **{"METRICS_PORT": str(port), **environment})
            cleanup.callback(service.close)
            cleanup.callback(stop, service)
            return service, port

        yield make


def stop(service: Service) -> None:
    """Stop it if it runs: a parent that is killed would leave the folder of its workers behind."""
    if service.is_running:
        service.stop()


def started(service: Service) -> list[int]:
    """The process ids of its workers so far."""
    messages = [str(line["message"]) for line in service.log_lines]
    return [int(each.strip("]").rpartition("[")[2]) for each in messages if each.startswith("Started server process")]


def restart_workers(service: Service) -> None:
    """Send SIGHUP, again if uvicorn gives up because a new worker was not ready within five seconds."""

    def restart() -> bool:
        before, given_up = alive(service), service.log.count("aborting the restart")
        os.kill(service.pid, signal.SIGHUP)
        eventually(
            lambda: service.log.count("aborting the restart") > given_up or not before & alive(service),
            60,
            "both workers are replaced",
        )
        return not before & alive(service)

    eventually(restart, 120)


def alive(service: Service) -> set[int]:
    return {child.pid for child in psutil.Process(service.pid).children()} & set(started(service))


def workers_of(port: int) -> set[str]:
    return scrape(port).values("process_cpu_seconds_total", "worker")


def request(service: Service, number: int) -> None:
    """Send requests, each on a connection of its own, so that all workers get some."""
    for _ in range(number):
        with service.client() as client:
            assert client.get("/me").status_code == httpx.codes.UNAUTHORIZED


def requested(port: int) -> float:
    return scrape(port).sum(REQUESTS, route="/me", status="401")


def test_one_process_serves_its_metrics_on_a_port_of_their_own(make: Make) -> None:
    service, port = make()
    service.start().wait_ready()
    request(service, 3)
    eventually(lambda: requested(port) == 3, 60, "all requests are counted")
    samples = scrape(port)
    assert samples.sum(REQUESTS, method="GET", route="/me", status="401") == 3
    assert samples.sum("http_server_active_requests") == 0
    assert samples.sum("build_info", service="user-service", version=__version__) == 1
    assert samples.sum("process_cpu_seconds_total", worker="0") > 0
    assert samples.sum("process_resident_memory_bytes", worker="0") > 10e6
    assert samples.sum("thread_pool_threads", pool="database-write") == 1
    with service.client() as client:
        assert client.get("/metrics").status_code == httpx.codes.NOT_FOUND
    assert service.stop() == 0


def test_no_metrics_are_served_without_the_setting(make: Make) -> None:
    service, _ = make(METRICS_PORT="")
    service.start().wait_ready()
    assert "serving metrics" not in service.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_one_line_and_no_start(make: Make, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service, _ = make(METRICS_PORT=str(taken.getsockname()[1]), WORKERS=workers)
        assert service.start().wait_ended() == 2
        [line] = service.log.splitlines()
        assert line.startswith(f"cannot start: port {taken.getsockname()[1]} of 127.0.0.1 is in use")
        assert line.endswith("or set METRICS_PORT")


def test_two_workers_are_added_up_also_after_a_kill_and_a_restart_of_all(make: Make) -> None:
    service, port = make(WORKERS="2")
    service.start().wait_ready()
    eventually(lambda: service.log.count("Application startup complete") == 2, 60, "both workers have started")
    request(service, 10)
    eventually(lambda: requested(port) == 10, 60, "all requests are counted")
    pids = started(service)
    folder = Path(psutil.Process(pids[0]).environ()["PROMETHEUS_MULTIPROC_DIR"])
    assert workers_of(port) == {"0", "1"}
    threads = scrape(port).sum("thread_pool_threads", pool="database-read")

    os.kill(pids[0], signal.SIGKILL)
    eventually(lambda: len(started(service)) == 3, 60, "a worker takes the place of the killed one")
    eventually(lambda: scrape(port).sum("thread_pool_threads", pool="database-read") == threads, 60, "gauges are live")
    eventually(lambda: requested(port) == 10, 60, "all requests are counted")
    request(service, 10)
    eventually(lambda: requested(port) == 20, 60, "all requests are counted")
    assert workers_of(port) == {"0", "1"}

    restart_workers(service)
    eventually(lambda: scrape(port).sum("thread_pool_threads", pool="database-read") == threads, 60, "gauges are live")
    eventually(lambda: requested(port) == 20, 60, "all requests are counted")
    request(service, 10)
    eventually(lambda: requested(port) == 30, 60, "all requests are counted")
    assert workers_of(port) <= {"0", "1", "2"}
    # Three files for each worker that runs, and two for all that have ended.
    assert len(list(folder.iterdir())) == 8
    service.stop()
    assert not folder.exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_time_of_the_last_backup_is_that_of_the_command(make: Make, tmp_path: Path, workers: str) -> None:
    service, port = make(WORKERS=workers)
    service.start().wait_ready()
    assert [each.value for each in scrape(port).all if each.name == LAST_BACKUP] == [0]
    begin = time.time()
    done = preloaded.run("user_service", ["backup", "users.backup"], service.folder, service.environment)
    assert done.returncode == 0, done.stderr
    assert begin <= scrape(port).sum(LAST_BACKUP) <= time.time()


def test_without_a_database_there_is_no_time_of_a_backup_but_all_else(make: Make) -> None:
    service, port = make()
    service.start().wait_ready()
    service.database.write_bytes(b"no database " * 1000)
    samples = scrape(port)
    assert LAST_BACKUP not in {each.name for each in samples.all}
    assert samples.sum("build_info") == 1
