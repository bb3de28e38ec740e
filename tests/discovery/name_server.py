"""A DNS server whose answers change: dnsmasq, at port 53 of the network namespace of these tests."""

import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from testkit.processes import eventually


class NameServer:
    def __init__(self, folder: Path) -> None:
        self._hosts = folder / "hosts"
        self._hosts.touch()
        options = ["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-"]
        options += ["--no-resolv", "--no-hosts", f"--addn-hosts={self._hosts}"]
        options += ["--listen-address=127.0.0.1", "--bind-interfaces"]
        self._process = subprocess.Popen(["dnsmasq", *options])

    def publish(self, name: str, addresses: Sequence[str]) -> None:
        """Answer with these addresses from now on; return when a lookup has them."""
        self._hosts.write_text("".join(f"{address} {name}\n" for address in addresses), encoding="ascii")

        def is_published() -> bool:
            assert self._process.poll() is None, "dnsmasq has ended"
            self._process.send_signal(signal.SIGHUP)  # Reads the file again.
            return lookup(name) == set(addresses)

        eventually(is_published, 20, f"{name} has the addresses {addresses}")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def lookup(name: str) -> set[str]:
    """The addresses of a name, as the resolver of this process finds them."""
    with suppress(socket.gaierror):
        return {str(each[4][0]) for each in socket.getaddrinfo(name, 80, socket.AF_INET)}
    return set()


@contextmanager
def name_server(folder: Path) -> Iterator[NameServer]:
    server = NameServer(folder)
    try:
        yield server
    finally:
        server.close()
