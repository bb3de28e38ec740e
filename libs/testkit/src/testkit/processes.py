"""The services as real processes on real sockets, for tests that use both.

    with running_services(tmp_path) as services:
        httpx.get(services.products.url + "/products", trust_env=False)

Each process has its own working folder with a data folder, so that it reads no developer's `.env`, and a free loopback
port. It inherits no settings of the services from the environment of the tests.
"""

import json
import os
import random
import re
import signal
import socket
import ssl
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

from chassis.database.url import normalise
from product_service.settings import Settings as ProductSettings
from testkit import preloaded
from user_service.settings import Settings as UserSettings

T = TypeVar("T")

READY_WITHIN = 120.0
STOPPED_WITHIN = 60.0
SETTINGS = {name.upper() for settings in (UserSettings, ProductSettings) for name in settings.model_fields}
"""The environment variables that configure a service."""

UNLIMITED = {name: "off" for name in SETTINGS if re.fullmatch("RATE_LIMIT_.*(?<!_URL)", name)}
"""Settings without rate limits, for tests that log in often."""

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would load the system's authorities for each client: 40 ms.


def free_port() -> int:
    """A free loopback port."""
    # Below the ephemeral range, so that no outgoing connection takes it in the meantime.
    while True:
        port = random.randrange(20_000, 32_000)
        with closing(socket.socket()) as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def eventually(probe: Callable[[], T | None], within: float = 60.0, what: str | Callable[[], str] = "") -> T:
    """Wait until `probe` returns neither None nor False, and return the value; raise AssertionError on a timeout."""
    deadline = time.monotonic() + within
    while True:
        answer = probe()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {within} s: {what() if callable(what) else what}")
        time.sleep(0.02)


class Endpoint(ABC):
    """A service on a loopback port, in a process or a container."""

    name: str
    """`user-service` or `product-service`"""

    @property
    @abstractmethod
    def port(self) -> int: ...

    @property
    @abstractmethod
    def log(self) -> str:
        """Its output so far, of all its starts."""

    @abstractmethod
    def start(self) -> Self:
        """Start it without waiting until it is ready."""

    @abstractmethod
    def stop(self) -> object:
        """Stop it gracefully, and wait for its end."""

    @abstractmethod
    def reason_of_end(self) -> str | None:
        """Why it has ended; None while it runs."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> httpx.Client:
        """A client of this service, which the caller closes."""
        return httpx.Client(**{"base_url": self.url, "verify": _NO_TLS, "trust_env": False, "timeout": 20, **options})

    def wait_ready(self, within: float = READY_WITHIN) -> Self:
        """Wait until `/health/ready` is 200; raise AssertionError with the end of the log on a timeout."""
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
    """One service as a process. It can be stopped, killed and restarted with the same port, data and settings."""

    def __init__(self, name: str, folder: Path, **environment: str) -> None:
        """Prepare the process without starting it.

        :param name: `user-service` or `product-service`
        :param folder: the working folder of the process, with its data and log; created if missing
        :param environment: settings that override the defaults of tests
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
            # A busy machine must not turn a slow response into an error; tests of a timeout set their own.
            "DATABASE_POOL_TIMEOUT": "15",
            "VALIDATION_TIMEOUT": "10",
            **UNLIMITED,
            **environment,
        }
        self.environment = {name: value for name, value in os.environ.items() if name.upper() not in SETTINGS}
        self.environment.update(settings)
        self._port = int(settings["PORT"]) if settings["PORT"].isdecimal() else 0
        self._process: preloaded.Process | None = None

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def port(self) -> int:
        return self._port

    @property
    def database(self) -> Path:
        """Its SQLite file, unless DATABASE_URL is set."""
        return self.data / f"{self.name}.db"

    @property
    def database_url(self) -> str:
        """The address of its database, for direct access."""
        return self.environment.get("DATABASE_URL", f"sqlite:///{self.database}")

    def sql(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement in its database, in a separate transaction, and return the rows."""
        engine = create_engine(normalise(self.database_url), poolclass=NullPool)
        with engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    @property
    def process(self) -> preloaded.Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def start(self, *arguments: str) -> Self:
        """Start the process without waiting; its output is appended to the log file."""
        if self.is_running:
            raise RuntimeError(f"{self.name} is running")
        self._process = preloaded.start(self.module, arguments, self.folder, self.environment, self.log_file)
        return self

    def reason_of_end(self) -> str | None:
        return None if self.is_running else f"ended with {self.process.exitcode}"

    def wait_ended(self, within: float = STOPPED_WITHIN) -> int:
        """Wait for the process to end by itself, and return its exit status."""
        self.process.join(within)
        if self.process.exitcode is None:
            raise TimeoutError(f"{self.name} still runs after {within} s:\n{self.end_of_log()}")
        return self.process.exitcode

    def stop(self, within: float = STOPPED_WITHIN) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.terminate()
        self.resume()
        return self.wait_ended(within)

    def kill(self) -> int:
        """Send SIGKILL; return the exit status."""
        self.process.kill()
        return self.wait_ended()

    def restart(self) -> Self:
        """Stop it if it runs, start it again, and wait until it is ready."""
        if self.is_running:
            self.stop()
        return self.start().wait_ready()

    def pause(self) -> None:
        """Send SIGSTOP: the system still accepts connections, but the service does not respond."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT, after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Kill the process and its workers, if they still run."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):  # The whole group has ended already, or does not exist yet.
            os.killpg(self.pid, signal.SIGKILL)
        self.kill()

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8") if self.log_file.exists() else ""

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """The complete lines of the log so far, decoded."""
        return [json.loads(line) for line in self.log.rpartition("\n")[0].split("\n") if line]

    def wait_for_log_line(self, message: str, within: float = 60.0, **fields: Any) -> dict[str, Any]:
        """Wait for a log line with this message and these fields; it may be written after the response."""
        wanted = {"message": message, **fields}

        def find() -> dict[str, Any] | None:
            return next((line for line in self.log_lines if wanted.items() <= line.items()), None)

        return eventually(find, within, lambda: f"a line with {wanted} in the log of {self.name}:\n{self.end_of_log()}")


class BrokenService(Service):
    """A service that is broken on purpose; a subclass names the module of the tests that does it."""

    def __init__(self, name: str, folder: Path, **environment: str) -> None:
        super().__init__(name, folder, PYTHONPATH=os.pathsep.join(sys.path), **environment)


@dataclass(frozen=True)
class Account:
    """A user account with an access token."""

    id: int
    username: str
    password: str
    token: str

    @property
    def bearer(self) -> dict[str, str]:
        """The Authorization header."""
        return {"Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True)
class Pair:
    """Both services, connected with each other."""

    users: Endpoint
    products: Endpoint

    def sign_up(self, username: str | None = None, password: str = "correct horse battery staple") -> Account:
        """Register and log in, with a random username by default."""
        username = username or f"user-{random.randrange(10**12)}"
        with self.users.client() as client:
            registered = client.post("/register", json={"username": username, "password": password})
            assert registered.status_code == httpx.codes.CREATED, registered.text
            return Account(registered.json()["id"], username, password, self.log_in(username, password))

    def log_in(self, username: str, password: str) -> str:
        """Log in, and return a new access token."""
        with self.users.client() as client:
            answer = client.post("/login", json={"username": username, "password": password})
        assert answer.status_code == httpx.codes.OK, answer.text
        return str(answer.json()["access_token"])

    def create_product(self, owner: Account, **fields: Any) -> dict[str, Any]:
        """Create a product, a lamp by default, and return the response."""
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
    r"|credentials\b.*object|decimal\(|<class|exception"
    r"|^input should|^value should|^string should|^field required",  # Pydantic's own texts
    re.IGNORECASE | re.MULTILINE,
)


def problem(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Check that the response is a problem (RFC 9457) that reveals no internals, and return its body."""
    assert response.status_code == status, f"{response.request.method} {response.request.url}: {response.text}"
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert set(body) - {"errors"} == _PROBLEM_FIELDS
    assert ("errors" in body) == (status == httpx.codes.UNPROCESSABLE_ENTITY)
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert code is None or body["code"] == code, body
    texts = [body["title"], body["detail"], body["code"], *(each["detail"] for each in body.get("errors", ()))]
    assert not _INTERNALS.search("\n".join(texts)), texts
    return body


@contextmanager
def services_in(
    folder: Path,
    new_database: Callable[[], str] | None = None,
    product_service: type[Service] = Service,
    /,
    **environment: str,
) -> Iterator[Services]:
    """Both services, not started yet; running ones are killed when the context ends.

    :param new_database: makes a database for each and returns its address; the default is their SQLite files
    :param product_service: how the product service is run
    :param environment: settings of both that override the defaults of tests
    """
    ports = [free_port() for _ in range(2)]
    user_service = f"http://127.0.0.1:{ports[0]}"
    common = {
        "USER_SERVICE_URL": user_service,
        "USER_SERVICE_PUBLIC_URL": user_service,
        **environment,
    }
    users = Service("user-service", folder / "user-service", **{"PORT": str(ports[0]), **common})
    products = product_service("product-service", folder / "product-service", **{"PORT": str(ports[1]), **common})
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
    """Both services, started and ready."""
    with services_in(folder, new_database, **environment) as services:
        for service in (services.users, services.products):
            service.start()
        for service in (services.users, services.products):
            service.wait_ready()
        yield services
