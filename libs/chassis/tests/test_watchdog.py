"""`chassis.process.watchdog`, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from chassis.process.watchdog import EXIT_STATUS

PROGRAM = """
import asyncio, sys, time
from chassis import logs
from chassis.process.watchdog import watched_loop

def block_the_loop(seconds):
    print("blocked", flush=True)
    for _ in range(20):
        time.sleep(seconds / 20)

async def main(limit, seconds):
    with watched_loop(limit):
        block_the_loop(seconds)
        await asyncio.sleep(0.1)

logs.configure("library", "INFO", "json")
asyncio.run(main(*map(float, sys.argv[1:])))
"""


def start(limit: float, blocked: float) -> subprocess.Popen[str]:
    """A process whose loop stands still for so many seconds, with a limit for the watchdog."""
    command = [sys.executable, "-c", PROGRAM, str(limit), str(blocked)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_process_whose_event_loop_stands_still_ends_and_says_where() -> None:
    with start(limit=0.5, blocked=300) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == EXIT_STATUS
    (line,) = (json.loads(each) for each in output.splitlines()[1:])
    assert (line["level"], line["seconds"]) == ("critical", 0.5)
    assert line["message"] == "the event loop stands still; the process ends"
    assert "in block_the_loop" in line["stack"]


@pytest.mark.parametrize("limit", [0, 60])
def test_a_loop_may_stand_still_for_a_moment(limit: float) -> None:
    with start(limit, blocked=1) as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "blocked\n")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGSTOP")
def test_the_time_of_a_suspended_process_does_not_count() -> None:
    with start(limit=3, blocked=1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "blocked\n"
        time.sleep(0.5)  # Now the watchdog waits for the loop.
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(4)
        os.kill(process.pid, signal.SIGCONT)
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "")
