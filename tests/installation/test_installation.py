"""The launcher's requirements (Python, its modules, a network), and when it reinstalls."""

import ast
import shutil
import sys
from pathlib import Path

import pytest

from tests.launcher.launching import NO_NETWORK, ROOT, Terminal, posix_only, processes_of, until

pytestmark = posix_only


def test_an_older_python_gets_a_readable_message(standin: Path, terminal: Terminal) -> None:
    ast.parse((ROOT / "dev.py").read_text(), feature_version=(3, 7))
    run = "import runpy, sys; sys.version_info = (3, 8, 18); sys.argv = ['dev.py', 'up']; runpy.run_path(sys.path[-1])"
    started = terminal.start(sys.executable, "-c", f"import sys; sys.path.append({str(standin / 'dev.py')!r}); {run}")
    assert started.status() == 1
    assert started.output.splitlines() == [
        "dev.py needs Python 3.11 or newer, and this is Python 3.8: start it with a newer Python."
    ]


@pytest.mark.parametrize("module", ["venv", "ensurepip", "_sqlite3"])
def test_a_missing_module_of_python_is_named(module: str, standin: Path, terminal: Terminal) -> None:
    run = f"import runpy, sys; sys.modules[{module!r}] = None; runpy.run_path({str(standin / 'dev.py')!r})"
    started = terminal.start(sys.executable, "-c", run)
    assert started.status() == 1
    assert started.output.count("\n") == 1
    assert module in started.output
    assert "python3-venv" in started.output


def test_a_start_script_without_python_says_so(standin: Path, terminal: Terminal) -> None:
    started = terminal.start(standin / "start-user-service.sh", PYTHON="python-of-nowhere")
    assert started.status() == 1
    assert started.output.count("\n") == 1
    assert "python-of-nowhere" in started.output


def test_a_moved_copy_is_reinstalled_once_there_is_a_network(standin: Path, terminal: Terminal) -> None:
    moved = shutil.copytree(standin, terminal.folder / "moved", symlinks=True)
    line = terminal.refused(moved, "migrate", **NO_NETWORK)
    assert line.startswith("dev.py: The package index can't be reached (is there a network?): ")
    assert line.endswith(" The next start tries again.")
    assert "Making .venv" in terminal.started[0].output

    again = terminal.dev(moved, "migrate")
    assert again.status() == 0, again.output
    assert "Making .venv" not in again.output
    assert "Installing" in again.output


def test_an_interrupted_installation_is_not_used(standin: Path, terminal: Terminal) -> None:
    fresh_copy = shutil.copytree(standin, terminal.folder / "fresh", ignore=shutil.ignore_patterns(".venv"))
    started = terminal.dev(fresh_copy, "migrate")
    started.prints("Making .venv ...")
    started.press_ctrl_c()
    assert started.status() == 130
    assert started.output == "Making .venv ...\nStopped by SIGINT.\n"
    until(lambda: not processes_of(fresh_copy), "pip has ended too")
    assert not (fresh_copy / ".venv" / "installed.json").exists()


@pytest.mark.parametrize("changed", ["requirements-build.txt", "libs/chassis/pyproject.toml"])
def test_only_changed_packages_are_reinstalled(changed: str, standin: Path, terminal: Terminal) -> None:
    file = standin / changed
    before = file.read_text()
    for text in (before + "# changed\n", before):
        file.write_text(text)
        started = terminal.dev(standin, "migrate")
        assert started.status() == 0
        assert f"Installing {changed.removesuffix('/pyproject.toml')} (" in started.output
    same = terminal.dev(standin, "migrate")
    assert same.status() == 0
    assert same.output == ""
