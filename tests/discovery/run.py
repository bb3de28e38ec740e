"""Runs the tests of this folder in namespaces of their own, for port 53 and for the file that names the DNS server."""

import os
import shutil
import sys

NEEDS = {"unshare": "util-linux", "mount": "mount", "ip": "iproute2", "dnsmasq": "dnsmasq-base"}
"""Programs, and the packages of Debian that have them."""

SCRIPT = 'ip link set lo up && mount --bind tests/discovery/resolv.conf /etc/resolv.conf && exec "$@"'


def main() -> None:
    """Raises SystemExit, with what is missing, where the tests can't run."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise SystemExit("The tests of service discovery need Linux and root, for namespaces of their own.")
    missing = [package for program, package in NEEDS.items() if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"The tests of service discovery need these packages of Debian: {', '.join(missing)}.")
    # The plugin would start databases; these tests use SQLite.
    pytest = [sys.executable, "-m", "pytest", "tests/discovery", "-n", "0", "-s", "-p", "no:testkit", *sys.argv[1:]]
    os.execvp("unshare", ["unshare", "--net", "--mount", "--", "sh", "-c", SCRIPT, "sh", *pytest])


if __name__ == "__main__":
    main()
