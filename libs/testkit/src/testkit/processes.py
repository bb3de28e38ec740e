"""The services as people run them, real processes on real sockets, for the tests that cross the two.

    with running_services(tmp_path) as services:
        httpx.get(services.products.url + "/products", trust_env=False)

Each process has a current folder of its own, so that it reads no developer's `.env`, a data folder in it, a free port
of the loopback address, and none of the services' settings from the environment of the tests.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from sqlalchemy import NullPool, create_engine, text

from product_service.settings import Settings as ProductSettings
from user_service.settings import Settings as UserSettings

T = TypeVar("T")

READY_WITHIN = 30.0
STOPPED_WITHIN = 15.0
SETTINGS = {name.upper() for settings in (UserSettings, ProductSettings) for name in settings.model_fields}
"""The environment variables that configure a service."""

UNLIMITED = {name: "off" for name in SETTINGS if re.fullmatch("RATE_LIMIT_.*(?<!_URL)", name)}
"""Settings without limits, for the many tests that log in more often than a person does."""


def free_port() -> int:
    """A port of the loopback address that nothing listens on."""
    # Below the range that outgoing connections get theirs from: none of them can take it in the meantime.
    while True:
        port = random.randrange(20_000, 32_000)
        with closing(socket.socket()) as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def eventually(probe: Callable[[], T | None], within: float = 10.0, what: str | Callable[[], str] = "") -> T:
    """The first answer of `probe` that is not None and not False; an AssertionError where none comes in time."""
    deadline = time.monotonic() + within
    while True:
        answer = probe()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what() if callable(what) else what}")
        time.sleep(0.02)


class Endpoint(ABC):
    """A service at a port of the loopback address, whatever it runs in."""

    name: str
    """`user-service` or `product-service`"""

    @property
    @abstractmethod
    def port(self) -> int: ...

    @property
    @abstractmethod
    def log(self) -> str:
        """What it has printed so far, in all its starts."""

    @abstractmethod
    def start(self) -> Self:
        """Start it, and do not wait for it."""

    @abstractmethod
    def stop(self) -> object:
        """Ask it to end, and wait until it has."""

    @abstractmethod
    def reason_of_end(self) -> str | None:
        """Why it can't become ready any more, if so."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> httpx.Client:
        """A client of this service; to be closed by who asks for it."""
        return httpx.Client(**{"base_url": self.url, "trust_env": False, "timeout": 20, **options})

    def wait_ready(self, within: float = READY_WITHIN) -> Self:
        """Return once `/health/ready` is 200; an AssertionError with the end of the log where it does not come."""
        with self.client(timeout=5) as client:

            def ready() -> bool:
                ended = self.reason_of_end()
                assert ended is None, f"{self.name} {ended}:\n{self.end_of_log()}"
                try:
                    return client.get("/health/ready").status_code == httpx.codes.OK
                except httpx.TransportError:
                    return False

            eventually(ready, within, lambda: f"{self.name} is ready:\n{self.end_of_log()}")
        return self

    def end_of_log(self) -> str:
        return "\n".join(self.log.splitlines()[-30:])


class Service(Endpoint):
    """One service as a process; it may be stopped, killed and started again, with the same port, data and settings."""

    def __init__(self, name: str, folder: Path, **environment: str) -> None:
        """Nothing is started yet.

        :param name: `user-service` or `product-service`
        :param folder: is made; the process's current folder, with its data and log files
        :param environment: its settings, over those that every service here has
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.folder = folder
        self.data = folder / "data"
        self.log_file = folder / "log"
        settings = {
            "PORT": str(free_port()),
            "DATA_DIR": str(self.data),
            "BCRYPT_COST": "4",
            "LOG_FORMAT": "json",
            **UNLIMITED,
            **environment,
        }
        self.environment = {name: value for name, value in os.environ.items() if name.upper() not in SETTINGS}
        self.environment.update(settings)
        # Whoever forbids Python to keep what it compiled makes each of the many starts here a third slower.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._port = int(settings["PORT"]) if settings["PORT"].isdecimal() else 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def port(self) -> int:
        return self._port

    @property
    def database(self) -> Path:
        """Its SQLite file, unless DATABASE_URL says otherwise."""
        return self.data / f"{self.name}.db"

    @property
    def database_url(self) -> str:
        """The address of its database, for whoever looks into it from beside."""
        return self.environment.get("DATABASE_URL", f"sqlite:///{self.database}")

    def sql(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement in its database, in a transaction of its own; the rows that it gives."""
        engine = create_engine(self.database_url, poolclass=NullPool)
        with engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *arguments: str) -> Self:
        """Start the process, and do not wait for it; what it prints is added to its log file."""
        if self.is_running:
            raise RuntimeError(f"{self.name} is running")
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A group of its own, so that workers are found when it comes to cleaning up.
                start_new_session=True,
            )
        return self

    def reason_of_end(self) -> str | None:
        return None if self.is_running else f"ended with {self.process.returncode}"

    def wait_ended(self, within: float = STOPPED_WITHIN) -> int:
        """The exit status of the process, which is about to end by itself."""
        return self.process.wait(within)

    def stop(self, within: float = STOPPED_WITHIN) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        self.resume()
        return self.wait_ended(within)

    def kill(self) -> int:
        """SIGKILL; the exit status."""
        self.process.kill()
        return self.wait_ended()

    def restart(self) -> Self:
        """Stop it if it runs; then start it on the same port and data, and wait until it is ready."""
        if self.is_running:
            self.stop()
        return self.start().wait_ready()

    def pause(self) -> None:
        """SIGSTOP: connections are accepted by the system, and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, after `pause`."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End whatever of it is left, its workers included, without asking."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):  # All of the group is gone already.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOPPED_WITHIN)

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8") if self.log_file.exists() else ""

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """The lines of the log so far, decoded; one that is not whole yet is left out."""
        return [json.loads(line) for line in self.log.rpartition("\n")[0].split("\n") if line]

    def wait_for_log_line(self, message: str, within: float = 10.0, **fields: Any) -> dict[str, Any]:
        """The first log line with this message and these fields; a line may come after the answer it is about."""
        wanted = {"message": message, **fields}

        def find() -> dict[str, Any] | None:
            return next((line for line in self.log_lines if wanted.items() <= line.items()), None)

        return eventually(find, within, lambda: f"a line with {wanted} in the log of {self.name}:\n{self.end_of_log()}")


@dataclass(frozen=True)
class Account:
    """Somebody with an account, and an access token."""

    id: int
    username: str
    password: str
    token: str

    @property
    def bearer(self) -> dict[str, str]:
        """The headers that say who is asking."""
        return {"Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True)
class Pair:
    """Both services, each knowing the other's address."""

    users: Endpoint
    products: Endpoint

    def sign_up(self, username: str | None = None, password: str = "correct horse battery staple") -> Account:
        """Register and log in; without a name under a new one."""
        username = username or f"somebody-{random.randrange(10**12)}"
        with self.users.client() as client:
            registered = client.post("/register", json={"username": username, "password": password})
            assert registered.status_code == httpx.codes.CREATED, registered.text
            return Account(registered.json()["id"], username, password, self.log_in(username, password))

    def log_in(self, username: str, password: str) -> str:
        """A new access token."""
        with self.users.client() as client:
            answer = client.post("/login", json={"username": username, "password": password})
        assert answer.status_code == httpx.codes.OK, answer.text
        return str(answer.json()["access_token"])

    def create_product(self, owner: Account, **fields: Any) -> dict[str, Any]:
        """A product, as it is answered; the fields given, over those of a lamp."""
        with self.products.client(headers=owner.bearer) as client:
            answer = client.post("/products", json={"name": "Lamp", "price": "19.99", "quantity": 3, **fields})
        assert answer.status_code == httpx.codes.CREATED, answer.text
        product: dict[str, Any] = answer.json()
        return product


@dataclass(frozen=True)
class Services(Pair):
    """Both services as processes."""

    users: Service
    products: Service


_PROBLEM_FIELDS = {"type", "title", "status", "detail", "instance", "code", "request_id"}
_INTERNALS = re.compile(
    r"traceback|sqlalchemy|sqlite|psycopg|pydantic|starlette|fastapi|uvicorn|httpx|jose|passlib|bcrypt|chassis|"
    r"user_service|product_service|\.py\b|\bselect\b .*\bfrom\b|insert into|update \w+ set|delete from"
    r"|unique constraint|users\.|products\.|password_hash|username_key|registration"
    r"|credentials\b.*object|decimal\(|<class|exception",
    re.IGNORECASE,
)


def problem(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The body of an error, which has to be a problem (RFC 9457) with this status that tells nothing of the inside."""
    assert response.status_code == status, f"{response.request.method} {response.request.url}: {response.text}"
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert set(body) - {"errors"} == _PROBLEM_FIELDS
    assert ("errors" in body) == (status == httpx.codes.UNPROCESSABLE_ENTITY)
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert code is None or body["code"] == code, body
    told = [body["title"], body["detail"], body["code"], *(each["detail"] for each in body.get("errors", ()))]
    assert not _INTERNALS.search("\n".join(told)), told
    return body


@contextmanager
def services_in(folder: Path, new_database: Callable[[], str] | None = None, **environment: str) -> Iterator[Services]:
    """Both services, not started yet; what runs of them at the end is ended, whatever happened.

    :param new_database: makes the database of either, and gives its address; without it they have their SQLite files
    :param environment: settings of both, over those that tests have
    """
    ports = [free_port() for _ in range(2)]
    user_service = f"http://127.0.0.1:{ports[0]}"
    common = {
        "USER_SERVICE_URL": user_service,
        "USER_SERVICE_PUBLIC_URL": user_service,
        "ALLOWED_ORIGINS": ",".join(f"http://{host}:{port}" for port in ports for host in ("127.0.0.1", "localhost")),
        **environment,
    }
    users = Service("user-service", folder / "user-service", **{"PORT": str(ports[0]), **common})
    products = Service("product-service", folder / "product-service", **{"PORT": str(ports[1]), **common})
    with ExitStack() as cleanup:
        for service in (users, products):
            if new_database:
                service.environment["DATABASE_URL"] = new_database()
            cleanup.callback(service.close)
        yield Services(users, products)


@contextmanager
def running_services(
    folder: Path, new_database: Callable[[], str] | None = None, **environment: str
) -> Iterator[Services]:
    """Both services, ready to answer."""
    with services_in(folder, new_database, **environment) as services:
        for service in (services.users, services.products):
            service.start()
        for service in (services.users, services.products):
            service.wait_ready()
        yield services
