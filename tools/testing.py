"""The commands of dev.py that test, attack and measure: the first line of each docstring is its help."""

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

from tools import audit as auditing
from tools import compatibility, upgrade
from tools.console import CommandError, say
from tools.environment import PYTHON, install, install_for_development, install_tools
from tools.processes import become, run
from tools.services import ROOT, services_present

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
"""The names of the program, by distribution."""

OBSERVERS = {"prometheus": ("prometheus", "promtool"), "prometheus-alertmanager": ("prometheus-alertmanager", "amtool")}
"""The programs of each package of Debian that the tests of the metrics need."""

REPLICATION = {"etcd-server": "etcd", "patroni": "patroni"}
"""The program of each package of Debian that the tests of a failover need, besides PostgreSQL."""

MINIMUM_WINE = 10


def bench(args: argparse.Namespace) -> int:
    """Run a benchmark: --short, --database NAME, --write; all further arguments go to it."""
    install_for_development()
    become([PYTHON, "-m", f"bench.{args.benchmark.replace('-', '_')}", *args.arguments])


def prove(args: argparse.Namespace) -> int:
    """Prove that revocation is immediate: --operations N, --seed N, --database NAME, --replicated, --break FAULT."""
    install_for_development()
    become([PYTHON, "-m", "tests.proof.prove", *args.arguments])


def fuzz(args: argparse.Namespace) -> int:
    """Fuzz both services, as their OpenAPI documents describe them: --max-examples N, --seed N, --database NAME."""
    install_for_development()
    become([PYTHON, "-m", "tests.fuzz.fuzz", *args.arguments])


def attack(args: argparse.Namespace) -> int:
    """Attack both services, and measure what others notice: NAME of an attack, --short, --database NAME."""
    install_for_development()
    become([PYTHON, "-m", "tests.attack.attack", *args.arguments])


def soak(args: argparse.Namespace) -> int:
    """Find what grows or is lost under traffic with faults: --minutes N, --seconds N, --database NAME, --break leak."""
    install_for_development()
    become([PYTHON, "-m", "tests.soak.soak", *args.arguments])


def load(args: argparse.Namespace) -> int:
    """Load both services, --with locust|k6: --seconds N, --users N, --user-service URL, --product-service URL."""
    install_for_development()
    become([PYTHON, "-m", "bench.load.run", f"--programs={install_tools('load')}", *args.arguments])


def audit(args: argparse.Namespace) -> int:
    """Look for known vulnerabilities, insecure code, secrets and licences, and write bills of materials (SBOM)."""
    install_for_development()
    return auditing.print_report(auditing.all_parts(install_tools("audit"), args.output, offline=args.offline))


def traces(args: argparse.Namespace) -> int:
    """Receive the spans of services with OTEL_EXPORTER_OTLP_ENDPOINT, and print each trace as text."""
    install_for_development()
    become([PYTHON, "-m", "testkit.traces", f"--port={args.port}"])


def test(args: argparse.Namespace) -> int:
    """Run the test suite; all further arguments go to pytest."""
    install_for_development()
    _become_pytest(*args.arguments)


def test_clients(args: argparse.Namespace) -> int:
    """Test the OpenAPI documents with linters and generated clients; all further arguments go to pytest."""
    install_for_development()
    if run([PYTHON, "-m", "tests.clients.packages"]).returncode != 0:
        raise CommandError("The client tests need Node.js and its packages.")
    _become_pytest("tests/clients", *args.arguments)


def test_containers(args: argparse.Namespace) -> int:
    """Build the images and test the system of docker-compose.yml; all further arguments go to pytest."""
    for what, words in (("Docker engine", ["info"]), ("docker compose", ["compose", "version"])):
        try:
            answers = run(["docker", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        except FileNotFoundError:
            answers = False
        if not answers:
            raise CommandError(f"The container tests need Docker, and no {what} responds.")
    install_for_development()
    # The databases run in the containers: without the plugin, pytest starts no others.
    _become_pytest("tests/containers", "-n", "0", "-p", "no:testkit", *args.arguments)


def test_windows(args: argparse.Namespace) -> int:
    """Test the start scripts for Windows with Wine 10 or newer; all further arguments go to pytest."""
    try:
        version = run(["wine", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    except FileNotFoundError:
        version = ""
    major = re.match(r"wine-(\d+)", version)
    # Older versions interpret && and || in another way than Windows does.
    if not major or int(major[1]) < MINIMUM_WINE:
        raise CommandError(f"The tests of the Windows scripts need wine {MINIMUM_WINE} or newer on the PATH.")
    install_for_development()
    _become_pytest("tests/windows", "-n", "0", "-p", "no:testkit", *args.arguments)


def test_installation(args: argparse.Namespace) -> int:
    """Test dev.py, and the installation in fresh copies of the project; all further arguments go to pytest."""
    install_for_development()
    _become_pytest("tests/installation", "tests/launcher", *args.arguments)


def test_processes(args: argparse.Namespace) -> int:
    """Test kills, restarts, restores and worker processes of both services; all further arguments go to pytest."""
    install_for_development()
    _become_pytest("tests/processes", *args.arguments)


def test_large(args: argparse.Namespace) -> int:
    """Test with a catalogue of 100,000 products, which takes minutes; all further arguments go to pytest."""
    install_for_development()
    _become_pytest("tests/large", *args.arguments)


def test_gateways(args: argparse.Namespace) -> int:
    """Test gateways, and replicas behind load balancers, on Linux; all further arguments go to pytest."""
    install_for_development()
    _become_pytest("tests/gateways", "-n", "0", "-s", *args.arguments)


def test_discovery(args: argparse.Namespace) -> int:
    """Change the addresses of the user service in a DNS server, under load; all further arguments go to pytest."""
    install_for_development()
    become([PYTHON, "-m", "tests.discovery.run", *args.arguments])


def test_failover(args: argparse.Namespace) -> int:
    """Kill the primary of a replicated PostgreSQL under load; all further arguments go to pytest."""
    missing = [package for package, program in REPLICATION.items() if shutil.which(program) is None]
    # Another PostgreSQL than the one among the development requirements, which is too new for Patroni.
    if not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        missing.append("postgresql")
    if missing:
        raise CommandError(f"The tests of a failover need these packages of Debian: {', '.join(missing)}.")
    install_for_development()
    # The plugin would start another database.
    _become_pytest("tests/failover", "-n", "0", "-s", "-p", "no:testkit", *args.arguments)


def test_upgrade(args: argparse.Namespace) -> int:
    """Run the tests of an older version on the present schema: --from REVISION, the last release by default."""
    revision = args.revision or compatibility.last_release(ROOT)
    if revision is None:
        say("No tag v* yet: there is no release whose tests could run on the present schema. Choose one with --from.")
        return 0
    install(services_present())
    return upgrade.run_suites(revision)


def test_observability(args: argparse.Namespace) -> int:
    """Test metrics, rules and dashboard with a real Prometheus; all further arguments go to pytest."""
    missing = [package for package, programs in OBSERVERS.items() if not all(map(shutil.which, programs))]
    if missing:
        raise CommandError(f"The tests of the metrics need these packages of Debian: {', '.join(missing)}.")
    install_for_development()
    _become_pytest("tests/observability", "-n", "0", *args.arguments)


def test_browser(args: argparse.Namespace) -> int:
    """Test the pages and the browser client in Chromium; all further arguments go to pytest."""
    _require_chromium()
    install_for_development()
    _become_pytest("tests/browser", "-n", "0", *args.arguments)


def screenshots(_: argparse.Namespace) -> int:
    """Write screenshots of the pages to docs/images."""
    _require_chromium()
    install_for_development()
    become([PYTHON, "-m", "tests.browser.screenshots"])


def _require_chromium() -> None:
    if not any(map(shutil.which, CHROMIUM)):
        raise CommandError("This needs a browser: install the package chromium.")


def _become_pytest(*arguments: str) -> NoReturn:
    # The tests start many interpreters. Without cached bytecode, each of them would take a third longer.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    become([PYTHON, "-m", "pytest", *arguments])
