"""What the tests of the launcher use: copies of the project, and a terminal to start commands in.

There are two kinds of copies: the project itself, and one with the real launcher and start scripts but services of a
few lines, which start quickly, record every signal they receive, and misbehave on request.
"""

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and start scripts are those of POSIX here")
SERVICES = ("user-service", "product-service")
LONG = 240.0  # Seconds; on a busy machine even the installation of the stand-ins takes more than a minute.
# Each with the libraries that it names in its pyproject.toml.
STANDIN_LIBRARIES = {"libs/auth-client": ["../chassis"], "libs/chassis": [], "libs/testkit": []}
SOURCES_OF_A_SERVICE = ["../libs/auth-client"]
COMMANDS = (
    *("up", "serve", "manage", "test", "test-clients", "test-browser", "test-installation", "test-large"),
    *("test-containers", "test-gateways", "test-upgrade", "test-windows", "prove", "fuzz", "attack", "check", "fix"),
    *("bench", "migrate", "revision", "openapi", "diagrams", "screenshots", "seed", "lock", "pin-images"),
    *("make-secrets", "traces", "test-observability", "test-discovery", "test-failover", "audit", "load", "soak"),
    "test-processes",
)
# Variables of the tests' own environment that must not reach the launcher.
SETTINGS = re.compile(
    "ALLOWED_ORIGINS|DATABASE_URL|DATA_DIR|ENVIRONMENT|HOST|LOG_.*|MIGRATE_ON_START|PORT|SECRET_.*|USER_SERVICE_.*|"
    "WORKERS|PYTHON.*|PYTEST.*|VIRTUAL_ENV"
)
NO_NETWORK = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_RETRIES": "0",
}

STANDIN_SERVICE = r"""
import json, os, pathlib, sys

service = pathlib.Path.cwd().name
told = os.environ.get("STANDIN_" + service.split("-")[0].upper(), "")
data = pathlib.Path(os.environ.get("DATA_DIR") or "data")
data.mkdir(parents=True, exist_ok=True)

if sys.argv[1:2] == ["migrate"]:
    (data / "migrated").write_text("yes")
    sys.exit(3 if told == "fail to migrate" else 0)
if sys.argv[1:2] == ["revision"]:
    print("revision", sys.argv[1:])
    sys.exit(4)
if sys.argv[1:2] == ["openapi"]:
    print(json.dumps({"title": service + " \u00e9", "paths": {}}, ensure_ascii=False) + "\n")
    sys.exit(5 if told == "fail to describe itself" else 0)
if sys.argv[1:]:
    print("manage", sys.argv[1:], "in", service)
    sys.exit(6)
if told == "refuse to start":
    print("cannot start: as told", file=sys.stderr)
    sys.exit(2)

import http.server, signal, subprocess, threading, time  # The commands start faster without them.

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({**os.environ, "PID": os.getpid()}).encode()
        self.send_response(503 if told == "never be ready" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)

def stop():
    time.sleep(0.3)  # During this time a second signal would be recorded.
    server.shutdown()

def note(number, frame):
    with open(data / "signals", "a") as file:
        file.write(signal.Signals(number).name + " ")
    if told != "ignore signals":
        threading.Thread(target=stop).start()

signal.signal(signal.SIGTERM, note)
signal.signal(signal.SIGINT, note)
if told == "ignore signals":
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
sys.stdout.buffer.write(b"listening, \xff \xc3\xa9\n")
sys.stdout.flush()
server.serve_forever()
print("bye")
"""

STANDIN_TOOL = r"""
import os, sys
name = os.path.basename(__file__).removesuffix(".py")
print(name, sys.argv[1:], "in", os.path.basename(os.getcwd()), flush=True)
status, _, argument = os.environ.get("STANDIN_" + name.upper().replace("-", "_"), "0").partition(" for ")
sys.exit(int(status) if argument in ("", *sys.argv[1:2]) else 0)
"""

STANDIN_PIP = r"""
import pathlib, sys, sysconfig

for word in sys.argv[1:]:
    option, _, value = word.partition("=")
    if option == "--editable":
        path = pathlib.Path(sysconfig.get_path("purelib"), value.replace("/", "-") + ".pth")
        path.write_text(str(pathlib.Path(value, "src").absolute()))
    elif option == "--requirement" and "--require-hashes" not in sys.argv:
        sys.exit("ERROR: without hashes")
"""


def until(condition: Callable[[], object], what: str, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"timed out after {within} s: {what}"
        time.sleep(0.02)


def free_ports(count: int = 2) -> tuple[int, ...]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(each.getsockname()[1] for each in sockets)


def ports_for_up() -> tuple[str, ...]:
    user, product = free_ports()
    return "--user-port", str(user), "--product-port", str(product)


def request(port: int, method: str, path: str, body: object = None, token: str = "") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, text if "html" in response.headers.get("Content-Type", "") else json.loads(text)
    finally:
        connection.close()


def is_ready(port: int) -> bool:
    try:
        return request(port, "GET", "/health/ready")[0] == 200
    except OSError:
        return False


def processes_of(tree: Path) -> list[str]:
    """The command lines of all processes that run something of this copy."""
    if Path("/proc/self/cmdline").exists():
        lines = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                lines.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue  # It has just ended.
    else:
        listing = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True)
        lines = listing.stdout.splitlines()
    return [line for line in lines if f"{tree}{os.sep}" in line]


class Started:
    """A command in a session of its own, like the foreground job of a terminal; its output goes to a file."""

    def __init__(self, command: list[str], log: Path, folder: Path, environment: dict[str, str]) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def last_line(self) -> str:
        return (self.output.splitlines() or [""])[-1]

    def prints(self, text: str, within: float = LONG) -> None:
        """Wait for this text; if the command exits without it, the test fails at once."""

        def printed() -> bool:
            ended = self.process.poll() is not None
            assert not ended or text in self.output, f"ended without printing {text!r}:\n{self.output}"
            return text in self.output

        until(printed, f"{text!r} in\n{self.output}", within)

    def serves(self, port: int, within: float = LONG) -> None:
        """Wait, possibly for an installation, until it answers at this port; if it exits before, the test fails."""

        def ready() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output}"
            return is_ready(port)

        until(ready, f"an answer at port {port}", within)

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the whole foreground process group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def status(self, within: float = LONG) -> int:
        """Wait for the end; returns the exit status, which is negative for a signal."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            pytest.fail(f"not ended within {within} s:\n{self.output}")


class Terminal:
    """Starts commands in a folder and tracks them, so that none outlives its test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Started] = []

    def start(self, *command: object, **settings: object) -> Started:
        environment = {name: value for name, value in os.environ.items() if not SETTINGS.fullmatch(name)}
        environment |= {"PYTHON": sys.executable, **{name: str(value) for name, value in settings.items()}}
        log = self.folder / f"output-{len(self.started)}.txt"
        started = Started([str(word) for word in command], log, self.folder, environment)
        self.started.append(started)
        return started

    def dev(self, tree: Path, *words: object, **settings: object) -> Started:
        return self.start(sys.executable, tree / "dev.py", *words, **settings)

    def refused(self, tree: Path, *words: object, **settings: object) -> str:
        """Run a command of dev.py that must exit with status 1 and one line of error; returns that line."""
        started = self.dev(tree, *words, **settings)
        assert started.status() == 1, started.output
        assert "Traceback" not in started.output
        assert started.output.count("dev.py: ") == 1
        assert started.last_line.startswith("dev.py: ")
        return started.last_line

    def changed(self, tree: Path, change: str, *words: object, **settings: object) -> Started:
        """Run this copy's dev.py after a change to the constants of `tools.processes`."""
        path = f"import sys; sys.path.insert(0, {str(tree)!r})"
        code = f"{path}; from tools import command_line, processes; {change}; sys.exit(command_line.main())"
        return self.start(sys.executable, "-c", code, *words, **settings)

    def up(self, tree: Path, *words: object, **settings: object) -> tuple[Started, int, int]:
        """Start both services on free ports and wait until the launcher reports them as ready."""
        user, product = free_ports()
        started = self.dev(tree, "up", "--user-port", user, "--product-port", product, *words, **settings)
        started.prints("Press Ctrl-C to stop")
        return started, user, product

    def close(self) -> None:
        """Stop what a failed test has left running; services started by `up` stop with it."""
        for started in self.started:
            started.process.terminate()
        for started in self.started:
            try:
                started.process.wait(30)
            except subprocess.TimeoutExpired:
                started.process.kill()
                started.process.wait()


def copy_of_the_project(target: Path) -> Path:
    """Copy the files of a fresh clone, with the uncommitted changes."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in files:
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def copy_with_standins(tree: Path, services: Sequence[str] = SERVICES) -> Path:
    """The launcher with stand-ins for the services and for the tools, not installed yet."""
    tree.mkdir()
    for name in ("dev.py", "start-user-service.sh", "start-product-service.sh", "requirements-build.txt"):
        shutil.copy2(ROOT / name, tree / name)
    shutil.copytree(ROOT / "tools", tree / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    # The locked requirements of the stand-ins are few; the build tool alone stands for them.
    for name in ("requirements-dev.txt", *(f"{service}/requirements.txt" for service in services)):
        (tree / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / "requirements-build.txt", tree / name)
    for folder, sources in {**STANDIN_LIBRARIES, **dict.fromkeys(services, SOURCES_OF_A_SERVICE)}.items():
        module = folder.rpartition("/")[2].replace("-", "_")
        package = tree / folder / "src" / module
        package.mkdir(parents=True)
        (package / "__init__.py").write_text('"""A stand-in."""\n\n__version__ = "0"\n')
        (package / "__main__.py").write_text(STANDIN_SERVICE)
        (package / "demo").mkdir()
        (package / "demo" / "seed.py").write_text(STANDIN_TOOL)
        (tree / folder / "tests").mkdir()
        (tree / folder / "Dockerfile").touch()
        (tree / folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n'
            f'[project]\nname = "standin-{module}"\ndynamic = ["version", "description"]\n'
            f'[tool.flit.module]\nname = "{module}"\n'
            "[tool.uv.sources]\n"
            + "".join(f'source-{number} = {{ path = "{source}" }}\n' for number, source in enumerate(sources))
        )
    for label, port in [(service.removesuffix("-service"), 8003) for service in services if service not in SERVICES]:
        add_to_the_list(tree, label, port)
    for tool in ("pytest", "ruff", "mypy", "uv"):
        (tree / f"{tool}.py").write_text(STANDIN_TOOL)  # `python -m` finds it in the current folder.
    for path in (
        *("bench/login_timing.py", "bench/services.py", "tests/browser/screenshots.py", "tests/clients/packages.py"),
        *("tests/proof/prove.py", "tests/fuzz/fuzz.py", "tests/attack/attack.py"),
    ):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(STANDIN_TOOL)
    return tree


def install_standins(tree: Path) -> Path:
    """Install a copy with stand-ins, and the stand-ins for those tools that are programs."""
    first = Terminal(tree.parent)
    assert first.dev(tree, "migrate").status() == 0, first.started[0].output
    assert "Installing all requirements" in first.started[0].output
    for tool in ("lint-imports", "hadolint", "kubectl", "kubernetes-validate"):
        program = tree / ".venv" / "bin" / tool
        (tree / f"{tool}.py").write_text(STANDIN_TOOL)
        # By way of a shell, because the path of the interpreter may have a space in it.
        words = shlex.join([sys.executable, str(tree / f"{tool}.py")])
        program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        program.chmod(0o755)
    return tree


def make_venv_with_standin_of_pip(tree: Path) -> Path:
    """Make the .venv of a copy as the launcher does, but with a pip that installs only local packages, and at once."""
    folder = tree / ".venv"
    venv.EnvBuilder(symlinks=True).create(folder)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    (folder / "lib" / f"python{version}" / "site-packages" / "pip.py").write_text(STANDIN_PIP)
    (folder / "installed.json").write_text(json.dumps({"venv": f"Python {version} in {tree}"}))
    return tree


def add_to_the_list(tree: Path, label: str, port: int) -> None:
    """Add the one line that a new service needs in the launcher."""
    file = tree / "tools" / "services.py"
    last = '        Service("product", 8002),\n'
    text = file.read_text()
    assert text.count(last) == 1
    file.write_text(text.replace(last, f'{last}        Service("{label}", {port}),\n'))


def signals_of(data: Path) -> list[list[str]]:
    return [(data / service / "signals").read_text().split() for service in SERVICES]


def environment_of(port: int) -> dict[str, Any]:
    """The environment of a stand-in, and its process id."""
    environment: dict[str, Any] = request(port, "GET", "/")[1]
    return environment
