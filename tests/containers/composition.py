"""The system of docker-compose.yml, built from a clean copy of the project, with a name and ports of its own."""

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from testkit.processes import Endpoint, Pair, free_port

COMMAND_TIMEOUT = 600.0
SERVICES = ("user-service", "product-service")
DATABASES = {"user-service": "user-database", "product-service": "product-database"}
# Variables of the developer's environment that must not reach the tested system.
_SETTINGS = re.compile(
    "ENVIRONMENT|SECRET_KEY.*|SERVICE_KEY|TRUSTED_PROXIES|.*_DATABASE_PASSWORD|ALLOWED_ORIGINS|LOG_.*|BIND_ADDRESS"
    "|.*_SERVICE_PORT|COMPOSE_.*|.*PASSWORD.*|RATE_LIMIT_.*|.*_EXPIRE_.*|PRODUCT_WRITE_ACCESS|USER_SERVICE_PUBLIC_URL"
)


def docker(*words: str, check: bool = True, folder: Path | None = None, **settings: str) -> str:
    """Run `docker` and return its output. Raises AssertionError if it fails, unless `check` is false."""
    result = attempt(*words, folder=folder, **settings)
    assert result.returncode == 0 or not check, f"docker {' '.join(words)}: {result.returncode}\n{result.stdout}"
    return result.stdout.strip()


def attempt(*words: str, folder: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `docker` and return its status and output."""
    environment = {name: value for name, value in os.environ.items() if not _SETTINGS.fullmatch(name)}
    return subprocess.run(
        ["docker", *words],
        cwd=folder,
        env={**environment, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=COMMAND_TIMEOUT,
        check=False,
    )


@dataclass
class Composed(Endpoint):
    """One of the two services, as a container."""

    name: str
    number: int
    composition: "Composition"

    @property
    def port(self) -> int:
        return self.number

    @property
    def log(self) -> str:
        return self.composition.compose("logs", "--no-color", "--no-log-prefix", self.name)

    def start(self) -> Self:
        self.composition.compose("start", self.name)
        return self

    def stop(self) -> None:
        self.composition.compose("stop", self.name)

    def reason_of_end(self) -> str | None:
        return None  # A container that has ended is started again.


class Composition:
    """The four containers; nothing runs before `up`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """
        :param folder: a clean copy of the project
        :param settings: variables of docker-compose.yml
        """
        self.folder = folder
        self.project = f"test-{uuid.uuid4().hex[:12]}"
        users, products = (Composed(name, free_port(), self) for name in SERVICES)
        ports = {"USER_SERVICE_PORT": str(users.port), "PRODUCT_SERVICE_PORT": str(products.port)}
        self.settings = {"COMPOSE_PROJECT_NAME": self.project, **ports, **settings}
        self.services = Pair(users, products)

    def compose(self, *words: str, check: bool = True, **settings: str) -> str:
        return docker("compose", *words, check=check, folder=self.folder, **{**self.settings, **settings})

    def up(self) -> None:
        """Build what has changed, start everything, and return when all of it is healthy."""
        self.compose("up", "--detach", "--build", "--wait")

    def image(self, service: str) -> str:
        return f"{self.project}-{service}"

    def container(self, name: str) -> str:
        """The id of the container of a service or database."""
        return self.compose("ps", "--all", "--quiet", name)

    def inspect(self, name: str) -> dict[str, Any]:
        details: dict[str, Any] = json.loads(docker("inspect", self.container(name)))[0]
        return details

    def started_at(self, name: str) -> tuple[str, int]:
        """Which start of the container this is."""
        details = self.inspect(name)
        return details["State"]["StartedAt"], details["RestartCount"]

    def run_inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container of a service."""
        words = ("compose", "exec", "-T", service, *command)
        return attempt(*words, folder=self.folder, **self.settings)

    def sql(self, database: str, statement: str) -> str:
        """What a statement answers, in one of the databases."""
        return self.compose("exec", "-T", database, *psql(statement))


def psql(statement: str) -> tuple[str, ...]:
    return ("psql", "-U", "service", "-d", "service", "-tAc", statement)


@contextmanager
def composition(folder: Path, **settings: str) -> Iterator[Composition]:
    """A composition of which nothing is left afterwards, whatever happened: no container, network, volume or image."""
    made = Composition(folder, **settings)
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "5")
