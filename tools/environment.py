"""The virtual environment in .venv, and the installation of the locked requirements in it."""

import contextlib
import hashlib
import itertools
import json
import re
import sqlite3
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.console import CommandError, say
from tools.processes import run
from tools.services import ROOT, Service, all_libraries, libraries_of, services_present

VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if sys.platform == "win32" else "bin")
PYTHON = str(BIN / ("python.exe" if sys.platform == "win32" else "python"))
INSTALLED = VENV / "installed.json"  # Digests of what is installed; the file is absent during an installation.
LOCK = ROOT / ".dev-lock.db"  # Beside .venv, because rebuilding .venv empties it while the lock is held.
BUILD_REQUIREMENTS = "requirements-build.txt"
DEVELOPMENT_REQUIREMENTS = "requirements-dev.txt"
TOOLS = ("audit", "load")
"""Groups of pyproject.toml with environments of their own, because the test suite should not depend on them."""


def install(services: Sequence[Service], *, dev: bool = False) -> None:
    """Install these services and what they need, unless that is installed already; `dev` adds the development tools."""
    service_folders = [service.folder for service in services]
    libraries = all_libraries() if dev else libraries_of(service_folders)
    for folder in (*service_folders, *libraries):
        if not (ROOT / folder).is_dir():
            raise CommandError(f"This copy of the project has no folder {folder}.")
    with one_installation_at_a_time():
        installed = installed_digests()
        if dev or installed.get(DEVELOPMENT_REQUIREMENTS) == digest(DEVELOPMENT_REQUIREMENTS):
            locks = [DEVELOPMENT_REQUIREMENTS]  # These contain the requirements of all services, in the same versions.
        else:
            locks = [f"{folder}/requirements.txt" for folder in service_folders]
        packages = [f"{folder}/pyproject.toml" for folder in (*libraries, *service_folders)]
        new_locks = [path for path in (BUILD_REQUIREMENTS, *locks) if installed.get(path) != digest(path)]
        # An unchanged package is left alone: a running service may be importing it at this moment.
        new_packages = [path for path in packages if installed.get(path) != digest(path)]
        if not new_locks and not new_packages:
            return
        folders = [str(Path(path).parent) for path in new_packages]
        names = new_locks + folders
        what = ", ".join(names) if len(names) <= 2 else "all requirements"
        say(f"Installing {what} (the first time takes about half a minute) ...")
        # Forget outdated files now: otherwise one that is changed back later would pass for installed.
        now = {path: value for path, value in installed.items() if path == "venv" or value == digest(path)}
        # An interrupted installation leaves no record, so the next start rebuilds .venv, which may be incomplete.
        INSTALLED.unlink()
        try:
            if new_locks:
                pip_install("--require-hashes", *(f"--requirement={path}" for path in new_locks))
                now.update((path, digest(path)) for path in new_locks)
            if new_packages:
                # pip rejects local folders together with hashes. All dependencies are installed by now.
                pip_install("--no-deps", "--no-build-isolation", *(f"--editable={folder}" for folder in folders))
                now.update((path, digest(path)) for path in new_packages)
        except CommandError:
            INSTALLED.write_text(json.dumps(now))  # pip gave up by itself, so .venv is intact.
            raise
        INSTALLED.write_text(json.dumps(now))


def install_for_development() -> list[Service]:
    """Install everything for development; returns the services that this copy of the project has."""
    services = services_present()
    install(services, dev=True)
    return services


def install_tools(name: str) -> Path:
    """Install one of TOOLS in an environment of its own, unless it is there already.

    .venv has to exist: the environment is in it. Returns the folder of the programs.
    """
    requirements, folder = tools_requirements(name), VENV / "tools" / name
    record, programs = folder / "installed", folder / BIN.name
    wanted = f"{digest(requirements)} for Python {sys.version_info[0]}.{sys.version_info[1]} in {folder}"
    with one_installation_at_a_time():
        if not record.is_file() or record.read_text(encoding="utf-8") != wanted:
            say(f"Installing {requirements} (the first time takes about half a minute) ...")
            _make_environment(folder)
            pip_install("--require-hashes", f"--requirement={requirements}", python=str(programs / Path(PYTHON).name))
            record.write_text(wanted, encoding="utf-8")
    return programs


def tools_requirements(name: str) -> str:
    """The lock file of one of TOOLS."""
    return f"requirements-{name}.txt"


@contextlib.contextmanager
def one_installation_at_a_time() -> Iterator[None]:
    """Hold a lock while .venv is read or changed; the operating system releases it when the process dies."""
    with contextlib.closing(sqlite3.connect(LOCK, timeout=0.5, isolation_level=None)) as database:
        for attempt in itertools.count():
            try:
                database.execute("BEGIN EXCLUSIVE")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise CommandError(f"{LOCK.name} can't be locked: {error}.") from None
                if attempt == 1:
                    say("Waiting for another dev.py, which is installing ...")
        yield


def installed_digests() -> dict[str, str]:
    """Read what .venv contains; rebuild .venv if it is missing, broken, moved, or made for another Python."""
    wanted = f"Python {sys.version_info[0]}.{sys.version_info[1]} in {ROOT}"
    try:
        installed: dict[str, str] = json.loads(INSTALLED.read_text())
        works = run([PYTHON, "-I", "-c", "import pip"], stderr=subprocess.DEVNULL).returncode == 0
        if works and installed["venv"] == wanted:
            return installed
    except (OSError, ValueError, KeyError):
        pass
    say("Making .venv ...")
    _make_environment(VENV)
    INSTALLED.write_text(json.dumps({"venv": wanted}))
    return {"venv": wanted}


def _make_environment(folder: Path) -> None:
    try:
        venv.EnvBuilder(clear=True, symlinks=sys.platform != "win32", with_pip=True).create(folder)
    except subprocess.CalledProcessError:
        name = folder.relative_to(ROOT)
        raise CommandError(f"Can't make {name}: installing pip in it failed (ensurepip).") from None


def digest(path: str) -> str:
    file = ROOT / path
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no such file"


def pip_install(*arguments: str, python: str = PYTHON) -> None:
    """Run pip of .venv, or of another environment, quietly; a failure becomes a `CommandError`."""
    options = ["--disable-pip-version-check", "--no-input", "--quiet"]
    pip = run([python, "-m", "pip", "install", *options, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if pip.returncode != 0:
        lines = [line for line in pip.stdout.splitlines() if line.strip()] or ["pip printed nothing"]
        cause = next((line for line in lines if line.startswith("ERROR:")), lines[-1]).removeprefix("ERROR:").strip()
        offline = re.search(r"from versions: none|ConnectionError|ConnectTimeout|ReadTimeout", pip.stdout)
        what = "The package index can't be reached (is there a network?)" if offline else "The installation failed"
        raise CommandError(f"{what}: {cause}. The next start tries again.")
