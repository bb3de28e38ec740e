"""What each service finds in its environment when all of them run together."""

import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from tools.console import CommandError
from tools.services import ROOT, SERVICES, USER, Service

DEFAULT_PORTS = {service: service.port for service in SERVICES.values()}
SIGNING_SECRETS = ("SECRET_KEY", "SECRET_KEYS_ACCEPTED")


def require_different(ports: Mapping[Service, int]) -> None:
    """Raise a `CommandError` if two services share a port."""
    for one, other in itertools.combinations(ports, 2):
        if ports[one] == ports[other]:
            options = f"{one.port_option} or {other.port_option}"
            raise CommandError(f"Port {ports[one]} can't serve both: choose another with {options}.")


def data_folder(data_dir: str, service: Service) -> str:
    """The absolute path of a service's folder in a data folder of all services."""
    return str(Path(data_dir).expanduser().resolve() / service.folder)


def environments(data_dir: str | None, ports: Mapping[Service, int] = DEFAULT_PORTS) -> dict[Service, dict[str, str]]:
    """The environment of each service: the caller's, with its port, its data folder and the URL of the user service."""
    common = {name: value for name, value in os.environ.items() if value}  # To the services, empty means unset too.
    if "DATABASE_URL" in common:
        raise CommandError(
            "DATABASE_URL would give all services the same database: set it in the .env of each service instead."
        )
    data_dir = data_dir or common.get("DATA_DIR")
    defaults = {"USER_SERVICE_PUBLIC_URL": f"http://localhost:{ports[USER]}"}
    common |= {"USER_SERVICE_URL": f"http://127.0.0.1:{ports[USER]}", "MIGRATE_ON_START": "true"}
    result = {}
    for service, port in ports.items():
        environment = {**common, "PORT": str(port)}
        file = ROOT / service.folder / ".env"
        own = file.read_text(encoding="utf-8") if file.is_file() else ""
        for name, value in defaults.items():
            if not re.search(rf"^\s*{name}\s*=", own, re.MULTILINE | re.IGNORECASE):
                environment.setdefault(name, value)
        if service != USER:
            for secret in SIGNING_SECRETS:  # Only the user service signs; the others must not even hold a key.
                environment.pop(secret, None)
        if data_dir:
            environment["DATA_DIR"] = data_folder(data_dir, service)
        result[service] = environment
    return result
