"""A PostgreSQL that Patroni replicates on loopback, with synchronous commit and failover.

    with ReplicatedPostgreSQL() as cluster:
        url = cluster.new_database("users")     # postgresql://...@127.0.0.1:1,127.0.0.1:2,127.0.0.1:3/users?...
        dead = cluster.kill_primary()
        cluster.wait_for_primary()
        dead.start()
        cluster.wait_for_replicas()

It needs etcd, Patroni and an installation of PostgreSQL: the packages `etcd-server`, `patroni` and `postgresql` of
Debian. The data is in memory if possible. Root runs the servers as another user.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import psycopg2

from testkit.postgresql import memory
from testkit.processes import eventually, free_port

TTL = 10
"""Seconds after which a primary that has not renewed its lock is replaced. Patroni's default is 30."""

LOOP_WAIT = 1
"""Seconds between two looks of Patroni at its node. Its default is 10."""

RETRY_TIMEOUT = 4
"""Seconds in which Patroni tries again to reach etcd or PostgreSQL. Its default is 10."""

PACKAGES = ("etcd-server", "patroni", "postgresql")
"""The packages of Debian that have the programs."""

_USER, _GROUP = "nobody", "nogroup"
_ROLE = "services"
_NEEDED = 2 * 2**30  # bytes
_WITHIN = 120.0  # seconds; the machine may be busy


class MissingPrograms(Exception):
    """A program is not installed; the message names the packages."""


def binaries() -> Path:
    """The folder with the programs of PostgreSQL. Raises MissingPrograms if it, etcd or Patroni is not installed."""
    # Patroni 3.0 knows PostgreSQL up to 15, so not the one among the development requirements.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    missing = [name for name in ("etcd", "patroni") if shutil.which(name) is None]
    if not folders:
        missing.append("PostgreSQL")
    if missing:
        raise MissingPrograms(f"{', '.join(missing)} not found: install the packages {', '.join(PACKAGES)}")
    return folders[-1].parent


class _Process:
    """A server in a process group of its own, whose output goes to a file."""

    def __init__(self, folder: Path, *command: str | Path) -> None:
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": _USER, "group": _GROUP, "extra_groups": []}
        self._command = command
        self.folder = folder
        self.log = folder / "log"
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self._command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Patroni would read settings of a developer from it.
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
                start_new_session=True,  # Ctrl-C must reach only the tests.
                **self._user,
            )

    def suspend(self) -> None:
        assert self._popen is not None
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._popen is not None
        self._popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL to the group, and wait for its leader."""
        if self._popen is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()


class Node:
    """One PostgreSQL server with its Patroni."""

    def __init__(self, cluster: "ReplicatedPostgreSQL", name: str) -> None:
        self.name = name
        self.port = free_port()
        """The port of PostgreSQL."""
        self._cluster = cluster
        self._rest_port = free_port()
        self._data = cluster.folder / name / "data"
        self._data.parent.mkdir()
        self._settings = self._data.parent / "patroni.json"
        self._patroni = _Process(self._data.parent, "patroni", self._settings)

    def url(self, database: str) -> str:
        """The address of a database on this node, whatever its role."""
        return f"postgresql://{_ROLE}:{self._cluster.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the node, without waiting. After `kill` it becomes a replica; see `wait_for_replicas`."""
        self._patroni.start()

    def kill(self) -> None:
        """Send SIGKILL to Patroni, to the server and to each of its processes, as if the machine had lost its power."""
        # First, so that it does not start the server again.
        self._patroni.kill()
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            server = self._server()
            if server.name() == "postgres":
                processes = [server, *server.children(recursive=True)]
                for process in processes:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                eventually(lambda: all(map(_has_ended, processes)), _WITHIN, f"the end of {self.name}")

    @contextmanager
    def replay_paused(self) -> Iterator[None]:
        """Let this replica receive changes, and not show them, while the context lasts: some seconds at most."""
        # Otherwise, Patroni would soon resume it.
        self._patroni.suspend()
        try:
            self.execute("SELECT pg_wal_replay_pause()")
            eventually(lambda: self.execute("SELECT pg_get_wal_replay_pause_state()") == [("paused",)], _WITHIN)
            yield
        finally:
            self.execute("SELECT pg_wal_replay_resume()")
            self._patroni.resume()

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Let this replica receive nothing while the context lasts, as if the network to the primary were slow."""
        receiver = eventually(self._suspended_receiver, _WITHIN, f"the end of replication to {self.name}")
        try:
            yield
        finally:
            with suppress(psutil.NoSuchProcess):
                receiver.terminate()  # It would go on with what has arrived in the meantime. Another one starts.
                receiver.resume()

    def _suspended_receiver(self) -> psutil.Process | None:
        for (pid,) in self.execute("SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'"):
            with suppress(psutil.NoSuchProcess):  # Patroni may have just changed the settings, which replaces it.
                receiver = psutil.Process(pid)
                receiver.suspend()
                return receiver
        return None

    def _server(self) -> psutil.Process:
        return psutil.Process(int((self._data / "postmaster.pid").read_text().split("\n", 1)[0]))

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as a superuser, in a transaction of its own, and return the rows."""
        address = f"postgresql://postgres:{self._cluster.password}@127.0.0.1:{self.port}/{database}"
        with closing(psycopg2.connect(address, connect_timeout=10)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def members(self) -> dict[str, dict[str, Any]]:
        """What this node's Patroni knows of all nodes, by name; empty if it does not answer."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._rest_port}/cluster", trust_env=False, timeout=5)
        except httpx.TransportError:
            return {}
        return {member["name"]: member for member in answer.json()["members"]} if answer.is_success else {}

    def configure(self, etcd_port: int, settings: dict[str, Any]) -> None:
        """Write the settings of Patroni."""
        authentication = {
            "superuser": {"username": "postgres", "password": self._cluster.password},
            "replication": {"username": "replicator", "password": self._cluster.password},
        }
        content = {
            "scope": "twinlatch",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self._rest_port}", "connect_address": f"127.0.0.1:{self._rest_port}"},
            "etcd3": {"host": f"127.0.0.1:{etcd_port}"},
            "bootstrap": {"dcs": settings, "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"]},
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "bin_dir": str(self._cluster.binaries),
                "data_dir": str(self._data),
                "pgpass": str(self._data.parent / "pgpass"),
                "authentication": authentication,
                # scram spends milliseconds of each connection on hashing.
                "pg_hba": ["host all all 127.0.0.1/32 md5", "host replication replicator 127.0.0.1/32 md5"],
                "parameters": {"unix_socket_directories": "", "password_encryption": "md5"},
            },
        }
        self._settings.touch(mode=0o600)
        self._settings.write_text(json.dumps(content), encoding="utf-8")

    @property
    def log(self) -> str:
        """The output of Patroni and of the server."""
        return self._patroni.log.read_text(encoding="utf-8", errors="replace")


class ReplicatedPostgreSQL:
    """A primary and its replicas, which run until the context ends."""

    def __init__(self, nodes: int = 3, *, synchronous: bool = True) -> None:
        """
        :param nodes: after the loss of one, two of three still accept commits; one of two does not, if synchronous
        :param synchronous: a commit waits until a replica has it, and only such a replica takes over. Without it, a
            replica that is up to 16 MB behind may take over.
        """
        self.binaries = binaries()
        self.password = secrets.token_hex(16)
        self.folder = Path(tempfile.mkdtemp(prefix="replicated-postgresql-", dir=memory(_NEEDED)))
        self._synchronous = synchronous
        self.nodes = [Node(self, f"node{number}") for number in range(1, nodes + 1)]
        self._etcd_port, peer = free_port(), f"http://127.0.0.1:{free_port()}"
        client = f"http://127.0.0.1:{self._etcd_port}"
        (self.folder / "etcd").mkdir()
        self._etcd = _Process(
            self.folder / "etcd",
            *("etcd", "--name", "etcd", "--data-dir", self.folder / "etcd" / "data"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"etcd={peer}"),
        )

    def __enter__(self) -> Self:
        """Start everything; all replicas follow the primary, and all databases are still to be made."""
        try:
            for node in self.nodes:
                node.configure(self._etcd_port, self._settings())
            if os.geteuid() == 0:
                for path in (self.folder, *self.folder.rglob("*")):
                    shutil.chown(path, _USER, _GROUP)
            self._etcd.start()
            self.nodes[0].start()
            # The first one is the primary at the beginning.
            primary = self.wait_for_primary()
            for node in self.nodes[1:]:
                node.start()
            self.wait_for_replicas()
            primary.execute(f"CREATE ROLE {_ROLE} LOGIN PASSWORD '{self.password}'")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all processes, and delete the data."""
        for node in self.nodes:
            node.kill()
        self._etcd.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self, name: str) -> str:
        """Create a database whose owner is the role of the services; return its address with all nodes."""
        self.wait_for_primary().execute(f'CREATE DATABASE "{name}" OWNER {_ROLE} TEMPLATE template0')
        return self.url(name)

    def url(self, database: str, attributes: str = "read-write") -> str:
        """The address of a database with all nodes, in the form of libpq.

        :param attributes: `target_session_attrs`: `read-write` for the primary, `prefer-standby` for a replica
        """
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"postgresql://{_ROLE}:{self.password}@{hosts}/{database}?target_session_attrs={attributes}"

    def wait_for_primary(self, within: float = _WITHIN) -> Node:
        """Wait for a node that accepts writes, and return it."""

        def find() -> Node | None:
            return next((node for node in self.nodes if _accepts_writes(node)), None)

        return eventually(find, within, lambda: f"a primary:\n{self.end_of_logs()}")

    def wait_for_replicas(self, within: float = _WITHIN) -> Sequence[Node]:
        """Wait until all other nodes follow the primary, one of them synchronously; return them, this one first."""

        def find() -> list[Node] | None:
            primary = next((node for node in self.nodes if _accepts_writes(node)), None)
            if primary is None:
                return None
            states = primary.execute("SELECT application_name, sync_state FROM pg_stat_replication")
            replicas = {name: state for name, state in states if state in ("sync", "async")}
            if len(replicas) < len(self.nodes) - 1 or ("sync" in replicas.values()) != self._synchronous:
                return None
            # What Patroni has noted is a moment older. It promotes only the node that it has noted as synchronous, and
            # may still restart one that has just come back.
            members = primary.members()
            noted = [name for name, member in members.items() if member["role"] == "sync_standby"]
            # A node that has just started to run has no timeline yet.
            running = [
                member["timeline"]
                for member in members.values()
                if member["state"] == "running" and "timeline" in member
            ]
            if len(running) < len(self.nodes) or len(set(running)) > 1 or (self._synchronous and not noted):
                return None
            followers = [node for node in self.nodes if node.name in replicas]
            return sorted(followers, key=lambda node: node.name not in noted)

        return eventually(find, within, lambda: f"all replicas:\n{self.end_of_logs()}")

    def kill_primary(self) -> Node:
        """Kill the present primary, and return it at once. After `TTL` seconds at most, Patroni promotes another."""
        primary = self.wait_for_primary()
        primary.kill()
        return primary

    def end_of_logs(self) -> str:
        return "\n".join(f"{node.name}: {line}" for node in self.nodes for line in node.log.splitlines()[-15:])

    def _settings(self) -> dict[str, Any]:
        parameters = {
            "synchronous_commit": "on",
            "max_connections": 100,
            "wal_keep_size": "64MB",
            "min_wal_size": "32MB",
            "max_wal_size": "256MB",
            # A replica looks so often for the new primary; the default is 5 s.
            "wal_retrieve_retry_interval": "1s",
            # What a process has written outlives its kill. These databases need not survive a power failure.
            "fsync": "off",
            "jit": "off",
            "log_line_prefix": "%m ",
        }
        return {
            "ttl": TTL,
            "loop_wait": LOOP_WAIT,
            "retry_timeout": RETRY_TIMEOUT,
            "maximum_lag_on_failover": 16 * 2**20,
            "synchronous_mode": self._synchronous,
            "synchronous_mode_strict": self._synchronous,
            "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": parameters},
        }


def _has_ended(process: psutil.Process) -> bool:
    try:
        # Some init processes take seconds to notice it.
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _accepts_writes(node: Node) -> bool:
    try:
        return node.execute("SELECT pg_is_in_recovery()") == [(False,)]
    except psycopg2.OperationalError:
        return False
