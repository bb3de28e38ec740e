"""The start scripts for Windows, run by Wine's cmd with stand-ins for Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.launcher.launching import ROOT

TIMEOUT = 300.0
SCRIPTS = pytest.mark.parametrize("service", ["user-service", "product-service"])
# Like the real ones, they accept -c; otherwise they print what they were called with, and exit with a status of theirs.
STANDIN = '@echo off\r\nif "%~1"=="-c" exit /b 0\r\nif "%~2"=="-c" exit /b 0\r\necho {name} %*\r\nexit /b 3\r\n'
FAILING = "@exit /b 9\r\n"


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wine's own folder. The first command makes it, and prints more than its own output."""
    folder = tmp_path_factory.mktemp("wine")
    assert wine(folder, folder, "cmd", "/c", "exit").returncode == 0
    return folder


def wine(prefix: Path, folder: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    own = {"WINEPREFIX": str(prefix), "XDG_RUNTIME_DIR": str(prefix), "WINEDEBUG": "-all", "DISPLAY": ""}
    return subprocess.run(
        ["wine", *words],
        cwd=folder,
        env={**environment, **own, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=TIMEOUT,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a clone"
    (folder / "path").mkdir(parents=True)
    for service in ("user-service", "product-service"):
        shutil.copy2(ROOT / f"start-{service}.bat", folder)
    return folder


def start(project: Path, prefix: Path, service: str, *words: str, **settings: str) -> tuple[int, list[str]]:
    """Run the script of a service; returns its status and what it printed."""
    script = f"start-{service}.bat"
    result = wine(prefix, project, "cmd", "/c", script, *words, WINEPATH=windows(project / "path"), **settings)
    return result.returncode, [line.strip() for line in result.stdout.splitlines()]


def windows(path: Path) -> str:
    return "Z:" + str(path).replace("/", "\\")


def install(folder: Path, *names: str, text: str = STANDIN) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.bat").write_bytes(text.format(name=name).encode())


def called(project: Path, python: str, service: str) -> tuple[int, list[str]]:
    return 3, [f'{python} "{windows(project)}\\dev.py" serve {service} --help']


@SCRIPTS
def test_the_newest_python_of_the_launcher_is_used(project: Path, prefix: Path, service: str) -> None:
    install(project / "path", "py", "python")
    assert start(project, prefix, service, "--help") == called(project, "py -3", service)


@SCRIPTS
def test_python_is_used_without_a_launcher_that_works(project: Path, prefix: Path, service: str) -> None:
    install(project / "path", "python")
    install(project / "path", "py", text=FAILING)
    assert start(project, prefix, service, "--help") == called(project, "python", service)


@SCRIPTS
def test_python_may_be_a_command_with_a_version(project: Path, prefix: Path, service: str) -> None:
    install(project / "path", "py")
    assert start(project, prefix, service, "--help", PYTHON="py -3.12") == called(project, "py -3.12", service)


@pytest.mark.parametrize("quote", ["", '"'])
def test_python_may_be_a_path_with_a_space(project: Path, prefix: Path, quote: str) -> None:
    install(project / "my programs", "python312")
    python = f"{quote}{windows(project)}\\my programs\\python312.bat{quote}"
    answer = start(project, prefix, "user-service", "--help", PYTHON=python)
    assert answer == called(project, "python312", "user-service")


@SCRIPTS
def test_a_missing_python_is_reported(project: Path, prefix: Path, service: str) -> None:
    message = "can't find Python: install Python 3.11 or newer, or set PYTHON to the path of one."
    assert start(project, prefix, service) == (1, [f"start-{service}.bat: {message}"])


@pytest.mark.parametrize("python", ["py -3.12", "nowhere\\python.exe"])
def test_a_python_that_cannot_be_run_is_named(project: Path, prefix: Path, python: str) -> None:
    install(project / "path", "python")
    message = f"can't run {python}: set PYTHON to the path or command of Python 3.11 or newer."
    assert start(project, prefix, "user-service", PYTHON=python) == (1, [f"start-user-service.bat: {message}"])
