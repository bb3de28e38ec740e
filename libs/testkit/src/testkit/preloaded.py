"""Runs modules as `python -m` does, in forks of a process that has imported the services.

Importing takes most of the time that a service needs to start. Tests that start their own interpreter, among others
those of dev.py, cover the rest.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["product_service.main", "user_service.main", "chassis.process.server"])


def start(
    module: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], output: Path
) -> ForkServerProcess:
    """Start a module in a process group of its own.

    :param folder: the working folder
    :param output: standard output and standard error are appended to this file
    """
    process = _FORKS.Process(target=_run, args=(module, list(arguments), str(folder), dict(environment), str(output)))
    process.start()
    return process


def _run(module: str, arguments: list[str], folder: str, environment: dict[str, str], output: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdin = os.fdopen(0)  # multiprocessing has set it to another file.
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
