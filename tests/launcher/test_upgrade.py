"""`dev.py test-upgrade`: the tests of an older version run on the present schema."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.launcher.launching import ROOT, Terminal, posix_only
from tools import processes, upgrade
from tools.console import CommandError

pytestmark = posix_only

MIGRATIONS = Path("product-service", "src", "product_service", "migrations")
VARIABLES = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def git(tree: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=tree, env={**os.environ, **VARIABLES}, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one migration in the release v1, and another one since."""
    tree = tmp_path / "tree"
    (tree / MIGRATIONS).mkdir(parents=True)
    git(tree, "init", "--quiet")
    for number in (1, 2):
        (tree / MIGRATIONS / f"product_service_000{number}_x.py").touch()
        git(tree, "add", ".")
        git(tree, "commit", "--quiet", "-m", "x")
        git(tree, "tag", f"v{number}")

    def run_in_tree(command: list[str], folder: Path = tree, **options: Any) -> subprocess.CompletedProcess[str]:
        if command[0] == "git":
            return processes.run(command, folder, **options)
        found = sorted(path.name for path in (folder / MIGRATIONS).iterdir())
        deselected = sum(f"--deselect={test}" in command for test in upgrade.OF_READINESS)
        print(f"{command[1:3]} on {found}, {deselected} deselected")
        return subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(upgrade, "run", run_in_tree)
    monkeypatch.setattr(upgrade, "ROOT", tree)
    return tree


def test_the_suites_of_an_older_version_run_in_a_folder_of_their_own(
    tree: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert upgrade.run_suites("v1") == 7
    output = capfdbinary.readouterr().out.decode()
    assert f"['dev.py', 'test'] on ['product_service_0001_x.py'], {len(upgrade.OF_READINESS)} deselected" in output
    assert "The tests of v1 (" in output
    assert ") failed on the present schema.\n" in output
    assert "Migrations that it does not know: product_service_0002_x.\n" in output
    assert "That version knows no floors" in output
    assert upgrade.OF_READINESS[0] in output
    assert len(git(tree, "worktree", "list").splitlines()) == 1


def test_nothing_but_migration_tests_is_left_out_without_a_newer_migration(
    tree: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    upgrade.run_suites("v2")
    output = capfdbinary.readouterr().out.decode()
    assert ", 0 deselected" in output
    assert "Migrations that it does not know: none" in output
    assert "knows no floors" not in output


def test_an_unknown_revision_is_an_error(tree: Path) -> None:
    with pytest.raises(CommandError, match="no revision v3 "):
        upgrade.run_suites("v3")


def test_without_a_release_there_is_nothing_to_do(standin: Path, terminal: Terminal) -> None:
    started = terminal.dev(standin, "test-upgrade")
    assert started.status() == 0
    assert started.last_line.startswith("No tag v* yet: ")


def test_the_plugin_migrates_what_the_tests_migrate(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    present = tmp_path / "python"
    present.write_text(
        f'#!/bin/sh\necho "$* $DATABASE_URL" >> {shlex.quote(str(calls))}\nexec {shlex.quote(sys.executable)} "$@"\n'
    )
    present.chmod(0o755)
    environment = {**os.environ, "PRESENT_PYTHON": str(present), "PYTHONPATH": str((ROOT / upgrade.PLUGIN).parent)}
    words = [
        "-p",
        Path(upgrade.PLUGIN).stem,
        "-n0",
        "-q",
        "--sqlite-only",
        "product-service/tests/test_show_product.py",
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout
    [call] = calls.read_text().splitlines()
    assert call.startswith("-m product_service migrate sqlite:///")
