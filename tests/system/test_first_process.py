"""What stands between a container and its service; here it is not the first process, but it does the same."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a container has a Linux in it")

Start = Callable[[str], "subprocess.Popen[str]"]
WAIT_FOR_A_SIGNAL = """
import signal, sys
signal.alarm(60)
def note(number, frame):
    print(signal.Signals(number).name, flush=True)
    if number != signal.SIGHUP:
        sys.exit(7)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, note)
print("waiting", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a Python program behind a first process; both are gone afterwards."""
    with ExitStack() as cleanup:

        def start(program: str) -> "subprocess.Popen[str]":
            command = [sys.executable, "-m", "chassis.process.first_process", sys.executable, "-u", "-c", program]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
            )
            cleanup.enter_context(process)
            cleanup.callback(process.kill)
            return process

        yield start


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.mark.parametrize(
    ("program", "status"),
    [("pass", 0), ("raise SystemExit(2)", 2), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_it_ends_as_the_service_does(start: Start, program: str, status: int) -> None:
    assert start(program).wait(20) == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_service_once(start: Start, number: signal.Signals) -> None:
    process = start(WAIT_FOR_A_SIGNAL)
    assert line_of(process) == "waiting"
    process.send_signal(signal.SIGHUP)
    assert line_of(process) == "SIGHUP"
    process.send_signal(number)
    assert process.wait(20) == 7
    assert process.stdout
    assert process.stdout.read().split() == [number.name]


def test_a_service_that_has_not_said_what_a_signal_means_is_ended_by_it(start: Start) -> None:
    # As while it is being imported, or waits in the database's driver, where Python's own handlers would not run.
    process = start("print('busy'); import time; time.sleep(60)")
    assert line_of(process) == "busy"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM


def test_a_worker_that_ends_does_not_end_it(start: Start) -> None:
    process = start(
        "import subprocess, sys, time; subprocess.run([sys.executable, '-c', '']); print('on'); time.sleep(60)"
    )
    assert line_of(process) == "on"
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143


def test_the_service_is_in_a_session_of_its_own_and_hears_a_terminals_signal_from_one_side_only(start: Start) -> None:
    process = start("import os; print(os.getppid(), os.getsid(0))")
    parent, session = map(int, line_of(process).split())
    assert parent == process.pid
    assert session not in (process.pid, os.getsid(0))
    assert process.wait(20) == 0
