"""docs/add-a-service.md, followed on a copy of the project: its files, commands and calls of three services."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import Shell, commands, read
from tests.launcher.launching import Terminal, copy_of_the_project, free_ports, posix_only
from tests.pages import Step, follow, steps

pytestmark = posix_only

PAGE = "docs/add-a-service.md"
STEPS = list(steps(read(PAGE)))
OUTSIDE = {"tools/services.py", "docker-compose.yml"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project to which the page was applied, up to the commands that need running services."""
    project = copy_of_the_project(tmp_path_factory.mktemp("add a service") / "project")
    for step in STEPS:
        if step.kind != "run":
            follow(step, project)
        elif "curl" not in step.content and "dev.py test" not in step.content:
            run(step, project)
    return project


def run(step: Step, project: Path) -> None:
    for line in step.content.splitlines():
        command = line.replace("python3 ", f"'{sys.executable}' ", 1)
        ended = subprocess.run(["sh", "-c", command], cwd=project, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{line}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"


@pytest.fixture
def ports(project: Path, tmp_path: Path) -> Iterator[dict[str, int]]:
    """All three services, started as the page says; the port of each, by the one that the page has."""
    terminal = Terminal(tmp_path)
    user, product = free_ports()
    review, _ = free_ports()
    options = ("--user-port", user, "--product-port", product, "--review-port", review)
    started = terminal.dev(project, "up", *options, "--data-dir", tmp_path / "data", BCRYPT_COST=4)
    try:
        started.prints("Ctrl-C stops", within=240)
        yield {"8001": user, "8002": product, "8003": review}
    finally:
        terminal.close()


def test_outside_its_folder_a_service_adds_one_line_to_each_of_two_files() -> None:
    changes = {step.path: step.content for step in STEPS if step.kind == "change"}
    assert set(changes) == OUTSIDE
    for change in changes.values():
        assert [line[0] for line in change.splitlines() if line[0] != " "] == ["+"]
    written = {step.path for step in STEPS if step.kind == "write"}
    assert all(path.startswith("review-service/") for path in written)


def test_the_calls_of_the_page_are_answered_by_a_real_user_service(
    project: Path, ports: dict[str, int], tmp_path: Path
) -> None:
    [block] = [step.content for step in STEPS if "curl" in step.content]
    block = re.sub(r"localhost:(800\d)", lambda address: f"localhost:{ports[address[1]]}", block)
    with Shell(tmp_path) as shell:
        for command in commands(block):
            status, printed = shell.run(command.text)
            last = printed[-1] if printed and command.expected else command.expected
            assert (status, last) == (0, command.expected), f"{command.text} printed {printed}"


def test_the_tests_and_the_checks_of_the_page_pass(project: Path) -> None:
    [block] = [step for step in STEPS if "dev.py test" in step.content]
    run(block, project)
