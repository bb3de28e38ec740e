"""Runs modules as `python -m` does, in forks of a process that has imported the services.

Importing takes most of the time that a service needs to start. Tests that start their own interpreter, among others
those of dev.py, cover the rest.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import popen_forkserver
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path

RUN_WITHIN = 300.0
"""Seconds after which `run` kills a process that hangs."""

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("product_service.main", "product_service.commands", "user_service.main", "user_service.commands"),
        *("chassis.process.server", "chassis.process.protocol"),
        # The services import these when they need them.
        *("alembic.command", "zxcvbn"),
    ]
)


class _Popen(popen_forkserver.Popen):
    """Reads the exit status of a process once, whichever threads wait for it.

    The status arrives in a pipe. `start` polls all other processes, so without the lock it may read the status of one
    that another thread waits for. That thread finds the pipe empty and reports 255.
    """

    def __init__(self, process: BaseProcess) -> None:
        self._lock = threading.Lock()
        super().__init__(process)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        with self._lock:
            return super().poll(flag)


class Process(ForkServerProcess):
    """A process whose end several threads may wait for."""

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _Popen:  # noqa: N802 - the name that multiprocessing calls
        return _Popen(process_obj)


def start(module: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], output: Path) -> Process:
    """Start a module in a process group of its own, with empty standard input.

    :param folder: the working folder
    :param output: standard output and standard error are appended to this file
    """
    return _start(module, arguments, folder, environment, (Path(os.devnull), output, output))


def run(
    module: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], input: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a module to its end, as `subprocess.run` does. Raises AssertionError if it takes longer than RUN_WITHIN."""
    with tempfile.TemporaryDirectory() as temporary:
        streams = tuple(Path(temporary) / name for name in ("stdin", "stdout", "stderr"))
        streams[0].write_text(input, encoding="utf-8")
        process = _start(module, arguments, folder, environment, streams)
        process.join(RUN_WITHIN)
        status = process.exitcode
        if status is None:
            process.kill()
        output, errors = (each.read_text(encoding="utf-8") for each in streams[1:])
        assert status is not None, f"{module} {arguments} did not end within {RUN_WITHIN} s:\n{output}{errors}"
        return subprocess.CompletedProcess([module, *arguments], status, output, errors)


def _start(
    module: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], streams: tuple[Path, ...]
) -> Process:
    process = Process(target=_run, args=(module, list(arguments), folder, dict(environment), streams))
    process.start()
    return process


def _run(
    module: str, arguments: list[str], folder: Path, environment: dict[str, str], streams: tuple[Path, ...]
) -> None:
    os.setsid()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(streams[0], os.O_RDONLY), 0)
    for stream, path in enumerate(streams[1:], 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), stream)
    sys.stdin = os.fdopen(0)  # multiprocessing has set it to another file.
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
