"""What `bench.services` compares: the services, and two references that do the same work."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import httpx
import psutil
from jose import jwt

from bench import reference_database
from bench.http_load import Load, request_bytes, send
from testkit.databases import NewDatabase
from testkit.processes import SETTINGS, UNLIMITED, eventually, free_port

ROOT = Path(__file__).resolve().parents[1]
OURS, FLOOR, USUAL = "ours", "floor", "usual"
MODULES = {"users": "user_service", "products": "product_service"}
SECRET = "7Qk2vX9mTz4LrB8wYc1NpH6sJd3GfA5e"
CREDENTIALS = {"username": "ada", "password": "correct horse battery staple"}
DRAFT = {
    "name": "Desk lamp",
    "description": "A lamp for a desk",
    "price": "19.99",
    "currency": "EUR",
    "quantity": 3,
    "category": "lamps",
}


@dataclass(frozen=True)
class Call:
    """A request that all contenders answer with the same status."""

    service: str
    method: str
    path: str
    status: int
    body: bytes = b""
    is_protected: bool = False
    share: float = 1.0
    """Of the number of requests: expensive calls are sent less often."""

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


VALIDATION = Call("users", "POST", "/validate-token", 200)
CALLS = (
    Call("products", "GET", "/products/500", 200),
    Call("products", "GET", "/products?limit=20", 200),
    VALIDATION,
    Call("products", "POST", "/products", 201, json.dumps(DRAFT).encode(), is_protected=True, share=0.5),
)
PUBLIC = Call("products", "GET", "/products?limit=0", 422)
PROTECTED = Call("products", "POST", "/products", 422, b"{}", is_protected=True)
"""Both are refused without a query to the database. They differ in the validation of the token, and in the body."""
LOGIN = Call("users", "POST", "/login", 200, json.dumps(CREDENTIALS).encode())


@dataclass
class Contender:
    """A user service and a product service that run, with an account, its token and products."""

    name: str
    urls: Mapping[str, str]
    token: str = ""
    processes: list[psutil.Process] = field(default_factory=list)

    def request(self, call: Call) -> bytes:
        body = json.dumps({"token": self.token}).encode() if call is VALIDATION else call.body
        headers = {"Authorization": f"Bearer {self.token}"} if call.is_protected else {}
        return request_bytes(call.method, self.urls[call.service] + call.path, headers, body)

    async def measure(self, call: Call, count: int, connections: int) -> tuple[Load, float]:
        """Send the call; returns the load, and the CPU seconds of all service processes per request."""
        before = self._cpu()
        load = await send(self.urls[call.service], self.request(call), count=count, connections=connections)
        assert set(load.statuses) == {call.status}, f"{self.name}, {call.name}: {load.statuses}"
        return load, (self._cpu() - before) / count

    def fields(self, call: Call) -> set[str]:
        """The names of the fields in the response, or in each item of a list."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        body = json.dumps({"token": self.token}).encode() if call is VALIDATION else call.body
        url = self.urls[call.service] + call.path
        answer = httpx.request(call.method, url, headers=headers, content=body, trust_env=False).json()
        (names,) = {frozenset(each) for each in (answer if isinstance(answer, list) else [answer])}
        return set(names)

    def memory(self) -> dict[str, int]:
        """The resident memory of each service in bytes."""
        return {service: each.memory_info().rss for service, each in zip(MODULES, self.processes, strict=True)}

    def _cpu(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


class Starter:
    """Starts the processes of contenders, and stops them when its context ends."""

    def __init__(self, folder: Path, new_database: NewDatabase, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._folder = folder
        self._new_database = new_database
        self._cleanup = ExitStack()

    def start(self, name: str) -> Contender:
        """Start both services of a contender with default settings, but without limits of what one client may do."""
        contender = Contender(name, {service: f"http://127.0.0.1:{free_port()}" for service in MODULES})
        databases = dict.fromkeys(MODULES, self._new_database(None))
        if name == OURS:
            databases["products"] = self._new_database(None)
        else:
            reference_database.fill(databases["users"])
        for service, database in databases.items():
            self.run(contender, service, DATABASE_URL=database)
        contender.token = _prepared(contender.urls) if name == OURS else _token_of_references()
        return contender

    def run(self, contender: Contender, service: str, **environment: str) -> float:
        """Start one service, and return the seconds until it was ready."""
        name, url = contender.name, contender.urls[service]
        port = url.rpartition(":")[2]
        folder = self._folder / f"{name}-{service}"
        folder.mkdir(exist_ok=True)
        command = ["-m", MODULES[service]]
        if name != OURS:
            # uvicorn without extras. The floor logs its requests itself.
            options = ["--http", "h11", "--loop", "asyncio", "--no-access-log"] if name == FLOOR else []
            # The client of the floor keeps connections longer than uvicorn does by default.
            options += ["--timeout-keep-alive", "75"]
            command = ["-m", "uvicorn", f"bench.{name}:{service}", "--port", port, *options]
        settings = {
            "DATA_DIR": "data",
            "LOG_FORMAT": "json",
            "MAX_PRODUCTS_PER_ACCOUNT": "1000000",
            "PORT": port,
            "PYTHONPATH": str(ROOT),
            "SECRET_KEY": SECRET,
            "USER_SERVICE_URL": contender.urls["users"],
            **UNLIMITED,
            **self._environment,
            **environment,
        }
        inherited = {name: value for name, value in os.environ.items() if name.upper() not in SETTINGS}
        log = self._cleanup.enter_context((folder / "log").open("ab"))
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env={**inherited, **settings}, stdout=log, stderr=log
        )
        self._cleanup.callback(process.wait)
        self._cleanup.callback(process.terminate)
        eventually(lambda: _answers(url), what=lambda: (folder / "log").read_text(encoding="utf-8")[-3000:])
        contender.processes.append(psutil.Process(process.pid))
        return time.perf_counter() - started

    def close(self) -> None:
        self._cleanup.close()


@contextmanager
def starter(
    folder: Path, new_database: NewDatabase, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Starter]:
    """
    :param environment: further settings of the services
    """
    starter = Starter(folder, new_database, environment)
    try:
        yield starter
    finally:
        starter.close()


def _answers(url: str) -> bool:
    try:
        # Without the system's authorities, which take longer to load than the response, many times during a start.
        answer = httpx.get(f"{url}/health/ready", trust_env=False, verify=False)  # noqa: S501 - the URL is http
    except httpx.TransportError:
        return False
    return answer.status_code in (200, 404)


def _prepared(urls: Mapping[str, str]) -> str:
    """Create an account and its products, and return an access token."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        client.post(f"{urls['users']}/register", json=CREDENTIALS).raise_for_status()
        token: str = client.post(f"{urls['users']}/login", json=CREDENTIALS).raise_for_status().json()["access_token"]
        lines = (json.dumps({**DRAFT, "name": f"Lamp {number}"}) for number in range(reference_database.PRODUCTS))
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
        file = "\n".join(lines)
        client.post(f"{urls['products']}/products/import", content=file, headers=headers).raise_for_status()
    return token


def _token_of_references() -> str:
    claims = {"sub": "1", "sid": 1, "aud": "services", "iss": "user-service", "exp": 4_000_000_000}
    token: str = jwt.encode(claims, SECRET, "HS256")
    return token
