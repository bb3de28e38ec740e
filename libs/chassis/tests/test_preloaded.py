"""Processes that testkit starts."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path

import pytest

from testkit import preloaded

THREADS = 2


def test_every_thread_that_waits_for_a_process_gets_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ends.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    process = preloaded.start("ends", [], tmp_path, os.environ, tmp_path / "log")
    read = forkserver.read_signed
    all_read = threading.Barrier(THREADS)

    def read_together(fd: int) -> int:
        """Read the status when all threads are about to. Only one of them should come here."""
        with suppress(threading.BrokenBarrierError):
            all_read.wait(0.5)
        return int(read(fd))

    monkeypatch.setattr(forkserver, "read_signed", read_together)

    def wait() -> int | None:
        process.join(60)
        return process.exitcode

    with ThreadPoolExecutor(THREADS) as threads:
        statuses = [threads.submit(wait) for _ in range(THREADS)]
        assert [each.result() for each in statuses] == [3] * THREADS
