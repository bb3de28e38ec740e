#!/usr/bin/env python3
"""The front door for people: makes the environment and starts things, with the standard library only.

    python3 dev.py up        both services, at http://localhost:8001/docs and http://localhost:8002/docs
    python3 dev.py test      the test suite, but for what needs Docker or installs everything anew
    python3 dev.py --help    everything else

Whatever needs a library lives in a module beside what it exercises; this file runs it with the Python of `.venv`.
A command ends with 0 when all went well, with 1 and one line that says what is wrong, with 2 when it is mistyped, and
with 128 plus the number of the signal that ended it: 130 after Ctrl-C, 143 after SIGTERM.
"""

import sys

# This comes before all that an older Python lacks; the file keeps to a syntax that an older Python can parse.
if sys.version_info < (3, 11):  # noqa: UP036 - the reader of this line runs an older Python than the project asks for.
    older = "dev.py needs Python 3.11 or newer and this is Python {}.{}: start it with a newer one."
    sys.exit(older.format(*sys.version_info[:2]))

import argparse
import contextlib
import functools
import hashlib
import http.client
import itertools
import json
import math
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

try:
    import ensurepip  # noqa: F401 - Debian leaves it out, and venv would only find out half-way.
    import sqlite3
    import venv
except ImportError as missing:
    sys.exit(f"dev.py: this Python has no module {missing.name} (on Debian and Ubuntu: apt install python3-venv).")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if sys.platform == "win32" else "bin")
PYTHON = str(BIN / ("python.exe" if sys.platform == "win32" else "python"))
INSTALLED = VENV / "installed.json"  # Digests of what was installed; absent while an installation is going on.
LOCK = ROOT / ".dev-lock.db"  # Beside .venv, because a rebuilt .venv is emptied while the lock is held.
if sys.platform == "win32":
    END_SIGNAL, OWN_GROUP = signal.CTRL_BREAK_EVENT, subprocess.CREATE_NEW_PROCESS_GROUP
else:
    END_SIGNAL, OWN_GROUP = signal.SIGTERM, 0
READY_WITHIN = 60.0
STOP_WITHIN = 10.0


@dataclass(frozen=True)
class Service:
    """One of the two services; its label marks its lines and names its options."""

    folder: str
    module: str
    port: int
    label: str


USER = Service("user-service", "user_service", 8001, "user")
PRODUCT = Service("product-service", "product_service", 8002, "product")
SERVICES = {service.folder: service for service in (USER, PRODUCT)}
LIBRARIES = ("libs/chassis", "libs/auth-client")
BENCHMARKS = ["endpoint-styles", "login-timing", "validation-client"]  # Each is a module of bench/.


class Refusal(Exception):
    """What is wrong, as one line for the person at the keyboard."""


class Interrupted(KeyboardInterrupt):
    """A signal that asks to end; its number is the argument."""


def say(line: str) -> None:
    """Print one whole line; no narrow encoding or closed terminal may keep the services from being stopped."""
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write((line + "\n").encode(sys.stdout.encoding, "replace"))
        sys.stdout.buffer.flush()


# The environment: .venv and what is in it


def install(services: Sequence[Service], *, dev: bool = False) -> None:
    """Bring .venv to what the lock files say for these services (`dev`: for all development), or leave it as it is."""
    for service in services:
        if not (ROOT / service.folder).is_dir():
            raise Refusal(f"This copy of the project has no folder {service.folder}.")
    with only_one_installation():
        installed = what_is_installed()
        development = "requirements-dev.txt"
        if dev or installed.get(development) == digest(development):
            locks = [development]  # It contains all that the services need, in the same versions.
        else:
            locks = [f"{service.folder}/requirements.txt" for service in services]
        libraries = (*LIBRARIES, "libs/testkit") if dev else LIBRARIES
        packages = [f"{folder}/pyproject.toml" for folder in (*libraries, *(service.folder for service in services))]
        new_locks = [path for path in ("requirements-build.txt", *locks) if installed.get(path) != digest(path)]
        # An unchanged package is left alone: a running service may be importing it at this moment.
        new_packages = [path for path in packages if installed.get(path) != digest(path)]
        if not new_locks and not new_packages:
            return
        folders = [str(Path(path).parent) for path in new_packages]
        say(f"Installing {', '.join(new_locks + folders)} (the first time takes about half a minute) ...")
        # What no longer matches is forgotten now, or it would pass for installed once its file is changed back.
        now = {path: value for path, value in installed.items() if path == "venv" or value == digest(path)}
        # An interruption leaves no record of what is installed, and the next start rebuilds what may be half done.
        INSTALLED.unlink()
        try:
            if new_locks:
                pip_install("--require-hashes", *(f"--requirement={path}" for path in new_locks))
                now.update((path, digest(path)) for path in new_locks)
            if new_packages:
                # pip refuses local folders together with hashes; all that they depend on is there already.
                pip_install("--no-deps", "--no-build-isolation", *(f"--editable={folder}" for folder in folders))
                now.update((path, digest(path)) for path in new_packages)
        except Refusal:
            INSTALLED.write_text(json.dumps(now))  # pip gave up by itself, so .venv is whole.
            raise
        INSTALLED.write_text(json.dumps(now))


def install_for_development() -> list[Service]:
    """Install all that development needs, for the services that this copy of the project has."""
    services = [service for service in SERVICES.values() if (ROOT / service.folder).is_dir()]
    install(services, dev=True)
    return services


@contextlib.contextmanager
def only_one_installation() -> Iterator[None]:
    """Let one process at a time look at .venv and change it; the system frees the lock when its owner dies."""
    with contextlib.closing(sqlite3.connect(LOCK, timeout=0.5, isolation_level=None)) as database:
        for attempt in itertools.count():
            try:
                database.execute("BEGIN EXCLUSIVE")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise Refusal(f"{LOCK.name} can't be locked: {error}.") from None
                if attempt == 1:
                    say("Waiting for another dev.py, which is installing ...")
        yield


def what_is_installed() -> dict[str, str]:
    """What .venv holds; it is built anew if it is missing, broken, moved, or was made for another Python."""
    wanted = f"Python {sys.version_info[0]}.{sys.version_info[1]} in {ROOT}"
    try:
        installed: dict[str, str] = json.loads(INSTALLED.read_text())
        works = run([PYTHON, "-I", "-c", "import pip"], stderr=subprocess.DEVNULL).returncode == 0
        if works and installed["venv"] == wanted:
            return installed
    except (OSError, ValueError, KeyError):
        pass
    say("Making .venv ...")
    try:
        venv.EnvBuilder(clear=True, symlinks=sys.platform != "win32", with_pip=True).create(VENV)
    except subprocess.CalledProcessError:
        raise Refusal(".venv could not be made, because pip can't be put into it (ensurepip failed).") from None
    INSTALLED.write_text(json.dumps({"venv": wanted}))
    return {"venv": wanted}


def digest(path: str) -> str:
    file = ROOT / path
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no such file"


def pip_install(*arguments: str) -> None:
    """Run pip in .venv without its chatter; a failure becomes one line."""
    options = ["--disable-pip-version-check", "--no-input", "--quiet"]
    pip = run([PYTHON, "-m", "pip", "install", *options, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if pip.returncode != 0:
        lines = [line for line in pip.stdout.splitlines() if line.strip()] or ["no word from pip"]
        cause = next((line for line in lines if line.startswith("ERROR:")), lines[-1]).removeprefix("ERROR:").strip()
        offline = re.search(r"from versions: none|ConnectionError|ConnectTimeout|ReadTimeout", pip.stdout)
        what = "The package index can't be reached (is there a network?)" if offline else "The installation failed"
        raise Refusal(f"{what}: {cause}. The next start tries again.")


# Programs of .venv


def run(command: Sequence[str], folder: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it prints is shown, unless the options say otherwise."""
    options = {"encoding": "utf-8", "errors": "replace", "check": False, **options}
    return subprocess.run(command, cwd=folder, **options)  # noqa: S603 - every command is written in this file.


def become(command: Sequence[str], folder: Path = ROOT) -> NoReturn:
    """Turn into this program, so that a signal to this process id is a signal to the program."""
    if sys.platform == "win32":
        # Windows can't replace a process. There Ctrl-C reaches both, and it is for the program to act upon.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(run(command, folder).returncode)
    os.chdir(folder)
    os.execv(command[0], list(command))  # noqa: S606 - a shell is exactly what must not be in between.


class Crew:
    """Services that run and end together, each in a session of its own.

    Ctrl-C on a terminal therefore reaches only this process, which passes it on once. A signal is only noted when it
    comes and acted upon in `watch`: it can neither fall between the start of a child and the moment it is known here
    nor cut the stopping short.
    """

    def __init__(self) -> None:
        self.children: list[tuple[Service, subprocess.Popen[str], threading.Thread]] = []
        self.signal: int | None = None

    def __enter__(self) -> Self:
        on_signal(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = number

    def start(self, service: Service, environment: Mapping[str, str]) -> None:
        process = subprocess.Popen(  # noqa: S603 - the command is as fixed as the services are.
            [PYTHON, "-m", service.module],
            cwd=ROOT / service.folder,
            env={**environment, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Windows ignores this and heeds the next one instead.
            creationflags=OWN_GROUP,
        )
        output = threading.Thread(target=self._show, args=(service, process), daemon=True)
        self.children.append((service, process, output))
        output.start()

    @staticmethod
    def _show(service: Service, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            say(f"{service.label:7} | {line.rstrip()}")

    def watch(self, until: Callable[[], bool] = lambda: False, within: float = math.inf) -> bool:
        """Wait and say whether it came to be; a signal ends the waiting at once, and so does a child that has ended."""
        deadline = time.monotonic() + within
        while not until():
            if time.monotonic() > deadline:
                return False
            if self.signal is not None:
                raise Interrupted(self.signal)
            for service, process, output in self.children:
                if process.poll() is not None:
                    output.join(1)  # Its last words come before ours.
                    raise Refusal(f"The {service.folder} has ended by itself (status {process.returncode}).")
            time.sleep(0.05)
        return True

    def stop(self) -> None:
        """Ask every child to end, all of them at once and each of them once; what is left after a while is killed."""
        say("Stopping ...")
        for _, process, _ in self.children:
            process.send_signal(END_SIGNAL)
        deadline = time.monotonic() + STOP_WITHIN
        for service, process, output in self.children:
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                say(f"The {service.folder} has not ended within {STOP_WITHIN:.0f} s and is killed.")
                process.kill()
            if sys.platform != "win32":
                # A service that did not end by itself may have left workers behind; they are in its session.
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            output.join(1)


def on_signal(handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle every signal that asks to end, except those that our caller wants ignored, as nohup does."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def is_ready(port: int) -> bool:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=1)) as connection:
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def require_free(port: int, service: Service) -> None:
    with socket.socket() as listener:
        if sys.platform != "win32":  # There the option means another thing; here it forgives connections just closed.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            line = f"Port {port} is not free for the {service.folder}: choose another with --{service.label}-port."
            raise Refusal(f"{line} ({error.strerror})") from None


def environments(
    data_dir: str | None, user_port: int = USER.port, product_port: int = PRODUCT.port
) -> dict[Service, dict[str, str]]:
    """What each service finds in its environment when both are run from here."""
    common = {name: value for name, value in os.environ.items() if value}  # To the services, empty means unset too.
    if "DATABASE_URL" in common:
        raise Refusal("DATABASE_URL would give both services one database: set it in the .env of each service instead.")
    data_dir = data_dir or common.get("DATA_DIR")
    defaults = {"USER_SERVICE_PUBLIC_URL": f"http://localhost:{user_port}"}
    if (user_port, product_port) != (USER.port, PRODUCT.port):
        ports = (user_port, product_port, 3000, 5173)  # The last two are the usual ones of frontend servers.
        origins = [f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in ports]
        defaults["ALLOWED_ORIGINS"] = ",".join(origins)
    common |= {"USER_SERVICE_URL": f"http://127.0.0.1:{user_port}", "MIGRATE_ON_START": "true"}
    result = {USER: {**common, "PORT": str(user_port)}, PRODUCT: {**common, "PORT": str(product_port)}}
    for service, environment in result.items():
        file = ROOT / service.folder / ".env"
        own = file.read_text(encoding="utf-8") if file.is_file() else ""
        for name, value in defaults.items():
            if not re.search(rf"^\s*{name}\s*=", own, re.MULTILINE | re.IGNORECASE):
                environment.setdefault(name, value)
    for secret in ("SECRET_KEY", "SECRET_KEYS_ACCEPTED"):
        result[PRODUCT].pop(secret, None)  # The product service has no signing key, not even one that it ignores.
    if data_dir:
        for service, environment in result.items():
            environment["DATA_DIR"] = str(Path(data_dir).expanduser().resolve() / service.folder)
    return result


# Commands: the first line of each is its help

Action = Callable[[argparse.Namespace], int]


def up(args: argparse.Namespace) -> int:
    """Start both services and show their logs; Ctrl-C stops both."""
    ports = {USER: args.user_port, PRODUCT: args.product_port}
    if args.user_port == args.product_port:
        raise Refusal(f"Port {args.user_port} can't serve both: choose another with --user-port or --product-port.")
    settings = environments(args.data_dir, args.user_port, args.product_port)
    install([USER, PRODUCT])
    for service, port in ports.items():
        require_free(port, service)
    with Crew() as crew:
        for service in ports:
            crew.start(service, settings[service])
        for service, port in ports.items():
            if not crew.watch(until=functools.partial(is_ready, port), within=READY_WITHIN):
                raise Refusal(f"The {service.folder} was not ready at port {port} within {READY_WITHIN:.0f} s.")
        for service, port in ports.items():
            say(f"{service.folder:16} http://localhost:{port}/docs")
        account = r'"{\"username\": \"ada\", \"password\": \"correct horse battery staple\"}"'  # For sh and cmd alike.
        say("Next, in another terminal, make an account:")
        say(f'curl http://localhost:{args.user_port}/register -H "Content-Type: application/json" -d {account}')
        say("Ctrl-C stops both.")
        crew.watch()
    return 0


def serve(args: argparse.Namespace) -> int:
    """Run one service in the foreground, with the settings of the environment and of its .env."""
    service = SERVICES[args.service]
    install([service])
    become([PYTHON, "-m", service.module], ROOT / service.folder)


def manage(args: argparse.Namespace) -> int:
    """Run a command of a service, create-admin of the user service say; without one, list them."""
    service = SERVICES[args.service]
    install([service])
    become([PYTHON, "-m", service.module, *(args.arguments or ["--help"])], ROOT / service.folder)


def bench(args: argparse.Namespace) -> int:
    """Run a benchmark; all further arguments go to it."""
    install_for_development()
    become([PYTHON, "-m", f"bench.{args.benchmark.replace('-', '_')}", *args.arguments])


def prove(args: argparse.Namespace) -> int:
    """Prove that what is revoked is refused at once: --operations N, --seed N, --database NAME, --break cache."""
    install_for_development()
    become([PYTHON, "-m", "tests.proof.prove", *args.arguments])


def test(args: argparse.Namespace) -> int:
    """Run the test suite; all further arguments go to pytest."""
    install_for_development()
    become([PYTHON, "-m", "pytest", *args.arguments])


def test_containers(args: argparse.Namespace) -> int:
    """Build the images and test the system of docker-compose.yml; all further arguments go to pytest."""
    for what, words in (("Docker engine", ["info"]), ("docker compose", ["compose", "version"])):
        try:
            answers = run(["docker", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        except FileNotFoundError:
            answers = False
        if not answers:
            raise Refusal(f"The tests of the containers need Docker, and no {what} answers here.")
    install_for_development()
    # Their databases are those of the containers: the plugin that would bring others is left out.
    become([PYTHON, "-m", "pytest", "tests/containers", "-n", "0", "-p", "no:testkit", *args.arguments])


def test_installation(args: argparse.Namespace) -> int:
    """Test fresh copies of the project, which install everything anew; all further arguments go to pytest."""
    install_for_development()
    become([PYTHON, "-m", "pytest", "tests/installation", *args.arguments])


def test_large(args: argparse.Namespace) -> int:
    """Test with a catalogue of 100,000 products, which takes minutes; all further arguments go to pytest."""
    install_for_development()
    become([PYTHON, "-m", "pytest", "tests/large", *args.arguments])


def check(_: argparse.Namespace) -> int:
    """Run the linters, the formatter, the type checker and the dependency rules; change nothing."""
    dockerfiles = [f"{service.folder}/Dockerfile" for service in install_for_development()]
    ruff, mypy = [PYTHON, "-m", "ruff"], [PYTHON, "-m", "mypy"]
    rules, hadolint = [str(BIN / "lint-imports")], [str(BIN / "hadolint"), *dockerfiles]
    tools: tuple[list[str], ...] = ([*ruff, "check"], [*ruff, "format", "--check"], mypy, rules, hadolint)
    # Test folders of services are no packages: mypy would take their conftest modules for one and the same.
    conftests = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("*-service/tests/conftest.py"))
    tools += tuple([*mypy, conftest] for conftest in conftests)
    failed = [" ".join(tool).removeprefix(f"{PYTHON} -m ") for tool in tools if run(tool).returncode != 0]
    if failed:
        raise Refusal(f"Not passed: {', '.join(failed)}.")
    return 0


def fix(_: argparse.Namespace) -> int:
    """Repair what the linter and the formatter can repair."""
    install_for_development()
    return max([run([PYTHON, "-m", "ruff", *tool]).returncode for tool in (["check", "--fix"], ["format"])])


def migrate(args: argparse.Namespace) -> int:
    """Bring the databases of both services up to date."""
    settings = environments(args.data_dir)
    install([USER, PRODUCT])
    for service, environment in settings.items():
        if run([PYTHON, "-m", service.module, "migrate"], ROOT / service.folder, env=environment).returncode != 0:
            raise Refusal(f"The database of the {service.folder} could not be migrated.")
    return 0


def revision(args: argparse.Namespace) -> int:
    """Write a new migration from what has changed in a service's models."""
    service = SERVICES[args.service]
    install_for_development()
    become([PYTHON, "-m", service.module, "revision", args.message], ROOT / service.folder)


def openapi(_: argparse.Namespace) -> int:
    """Write the OpenAPI documents of both services."""
    for service in install_for_development():
        folder = ROOT / service.folder
        document = run([PYTHON, "-X", "utf8", "-m", service.module, "openapi"], folder, stdout=subprocess.PIPE)
        if document.returncode != 0:
            raise Refusal(f"The {service.folder} did not print its OpenAPI document.")
        (folder / "openapi.json").write_text(document.stdout.rstrip("\n") + "\n", encoding="utf-8", newline="\n")
        say(f"Wrote {service.folder}/openapi.json.")
    return 0


def seed(args: argparse.Namespace) -> int:
    """Give the running services two accounts and a few dozen products, or a large catalogue."""
    for service, port in ((USER, args.user_port), (PRODUCT, args.product_port)):
        if not is_ready(port):
            raise Refusal(f"The {service.folder} does not answer at port {port}: start both with python3 dev.py up.")
    install([PRODUCT])
    if args.data_dir:
        os.environ["DATA_DIR"] = str(Path(args.data_dir).expanduser().resolve() / PRODUCT.folder)
    urls = [f"--users-url=http://127.0.0.1:{args.user_port}", f"--products-url=http://127.0.0.1:{args.product_port}"]
    become([PYTHON, "-m", f"{PRODUCT.module}.demo.seed", *urls, *args.more], ROOT / PRODUCT.folder)


def lock(args: argparse.Namespace) -> int:
    """Write the lock files anew from what the packages ask for."""
    install_for_development()
    flags = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-header", "-q"]
    for package in ("twinlatch-chassis", "twinlatch-auth-client"):
        flags += ["--no-emit-package", package]
    flags += ["--upgrade"] if args.upgrade else []
    *libraries, service_1, service_2 = (f"{folder}/pyproject.toml" for folder in (*LIBRARIES, *SERVICES))
    services = (service_1, service_2)
    development = "requirements-dev.txt"
    targets = {"requirements-build.txt": ["--group", "build"], development: ["--group", "dev", *libraries, *services]}
    for service in services:
        # The versions follow those of development, so that what is installed is what was tested.
        targets[service.replace("pyproject.toml", "requirements.txt")] = [service, "-c", development]
    for target, sources in targets.items():
        if run([PYTHON, "-m", "uv", "pip", "compile", *sources, *flags, "-o", target]).returncode != 0:
            raise Refusal(f"{target} could not be written.")
        say(f"Wrote {target}.")
    return 0


# The command line


def port_number(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 1 << 16):
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return int(text)


def command_name(action: Action) -> str:
    return action.__name__.replace("_", "-")


def parse(words: Sequence[str]) -> argparse.Namespace:
    for hands_on in (test, test_installation, test_large, test_containers, prove):
        if words[:1] == [command_name(hands_on)] and words[1:] not in (["-h"], ["--help"]):
            # argparse would take the options of what is run for its own.
            return argparse.Namespace(action=hands_on, arguments=words[1:])

    ports, data, service, message, upgrade, benchmark, rest, products = (
        argparse.ArgumentParser(add_help=False) for _ in range(8)
    )
    for each in SERVICES.values():
        text = f"the port of the {each.folder}, {each.port} if left out"
        ports.add_argument(f"--{each.label}-port", metavar="N", type=port_number, default=each.port, help=text)
    data.add_argument("--data-dir", metavar="DIR", help="keep the data of both services in this folder")
    service.add_argument("service", metavar="SERVICE", choices=list(SERVICES), help=" or ".join(SERVICES))
    message.add_argument("message", metavar="MESSAGE", help="what the migration does, in a few words")
    upgrade.add_argument("--upgrade", action="store_true", help="move to the newest versions that are allowed")
    products.add_argument(
        "--products",
        metavar="N",
        dest="more",
        type=lambda text: [f"--products={int(text)}"],
        default=[],
        help="so many more, written into the database of the product service",
    )
    benchmark.add_argument("benchmark", metavar="BENCHMARK", choices=BENCHMARKS, help=" or ".join(BENCHMARKS))
    rest.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="handed on as it is")

    parser = argparse.ArgumentParser(prog="dev.py", description="Runs, tests and maintains both services.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    takes: dict[Action, list[argparse.ArgumentParser]] = {
        up: [ports, data],
        migrate: [data],
        seed: [ports, data, products],
    }
    takes |= {serve: [service], revision: [service, message], lock: [upgrade]}
    takes |= {manage: [service, rest], bench: [benchmark, rest]}
    takes |= {test: [rest], test_installation: [rest], test_large: [rest], test_containers: [rest], prove: [rest]}
    for action in (
        *(up, serve, manage, test, test_installation, test_large, test_containers, prove, check, fix, bench),
        *(migrate, revision, openapi, seed, lock),
    ):
        name, text = command_name(action), action.__doc__ or ""
        commands.add_parser(name, help=text, description=text, parents=takes.get(action, [])).set_defaults(
            action=action
        )
    return parser.parse_args(words)


def main() -> int:
    args = parse(sys.argv[1:])
    on_signal(interrupt)
    try:
        status: int = args.action(args)
    except Interrupted as interrupted:
        number: int = interrupted.args[0]
        say(f"Stopped by {signal.Signals(number).name}.")
        return 128 + number
    except (Refusal, OSError) as problem:
        print(f"dev.py: {problem}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
