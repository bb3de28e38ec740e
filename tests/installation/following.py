"""Following a page of docs/ on a copy of the project: its files, its commands, and its calls of running services."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.documents import Shell, commands
from tests.launcher.launching import Terminal, copy_of_the_project, free_ports
from tests.pages import Step, follow


def apply(steps: list[Step], project: Path) -> Path:
    """Make a copy of the project, and do all that needs neither running services nor the tests."""
    copy_of_the_project(project)
    for step in steps:
        if step.kind != "run":
            follow(step, project)
        elif "curl" not in step.content and "dev.py test" not in step.content:
            run(step, project)
    return project


def run(step: Step, project: Path) -> None:
    """Run the commands of a block in the copy; each must succeed."""
    for line in step.content.splitlines():
        command = line.replace("python3 ", f"'{sys.executable}' ", 1)
        ended = subprocess.run(["sh", "-c", command], cwd=project, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{line}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"


@contextmanager
def running(project: Path, folder: Path, *more_services: str) -> Iterator[dict[str, int]]:
    """All services of the copy; the port of each, by the one that the page has."""
    terminal = Terminal(folder)
    ports = dict(zip(("8001", "8002", "8003"), (*free_ports(), free_ports()[0]), strict=True))
    labels = ("user", "product", *more_services)
    options = [f"--{label}-port={port}" for label, port in zip(labels, ports.values(), strict=False)]
    started = terminal.dev(project, "up", *options, "--data-dir", folder / "data", BCRYPT_COST=4)
    try:
        started.prints("Ctrl-C to stop", within=240)
        yield ports
    finally:
        terminal.close()


def paste(block: str, ports: dict[str, int], folder: Path) -> None:
    """Paste a block into a shell: each command prints last what the page says."""
    block = re.sub(r"localhost:(800\d)", lambda address: f"localhost:{ports[address[1]]}", block)
    with Shell(folder) as shell:
        for command in commands(block):
            status, printed = shell.run(command.text)
            last = printed[-1] if printed and command.expected else command.expected
            assert (status, last) == (0, command.expected), f"{command.text} printed {printed}"
