"""docs/add-a-field.md and docs/add-a-service.md, followed one after the other on a copy of the project."""

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import Shell, commands, read
from tests.launcher.launching import Terminal, copy_of_the_project, free_ports, posix_only
from tests.pages import Step, follow, steps

pytestmark = posix_only

FIELD = list(steps(read("docs/add-a-field.md")))
SERVICE = list(steps(read("docs/add-a-service.md")))


def block(page: list[Step], word: str) -> str:
    """The only block of commands with this word in it."""
    [content] = [step.content for step in page if step.kind == "run" and word in step.content]
    return content


def run(content: str, project: Path) -> None:
    """Run the commands of a block in the copy; each must succeed."""
    for line in content.splitlines():
        command = line.replace("python3 ", f"'{sys.executable}' ", 1)
        ended = subprocess.run(["sh", "-c", command], cwd=project, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{line}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy, with the files, changes and commands of both pages, up to their calls and tests."""
    project = copy_of_the_project(tmp_path_factory.mktemp("pages") / "a project")
    for page in (FIELD, SERVICE):
        for step in page:
            if step.kind != "run":
                follow(step, project)
            elif "curl" not in step.content and "dev.py test" not in step.content:
                run(step.content, project)
    return project


@pytest.fixture(scope="module")
def ports(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """All three services, started as the pages say: the port of each, by the port in the pages."""
    folder = tmp_path_factory.mktemp("up")
    terminal = Terminal(folder)
    ports = dict(zip(("8001", "8002", "8003"), (*free_ports(), free_ports()[0]), strict=True))
    options = [
        f"--{label}-port={port}" for label, port in zip(("user", "product", "review"), ports.values(), strict=True)
    ]
    started = terminal.dev(project, "up", *options, "--data-dir", folder / "data", BCRYPT_COST=4)
    try:
        started.prints("Ctrl-C to stop", within=240)
        yield ports
    finally:
        terminal.close()


def paste(content: str, ports: dict[str, int], folder: Path) -> None:
    """Paste a block into a shell: each command prints last what the page says."""
    content = re.sub(r"localhost:(800\d)", lambda address: f"localhost:{ports[address[1]]}", content)
    with Shell(folder) as shell:
        for command in commands(content):
            status, printed = shell.run(command.text)
            last = printed[-1] if printed and command.expected else command.expected
            assert (status, last) == (0, command.expected), f"{command.text} printed {printed}"


def test_a_field_needs_two_files_edited_by_hand() -> None:
    edited: defaultdict[str, set[str]] = defaultdict(set)
    for step in FIELD:
        assert step.kind != "write"
        if step.kind == "change":
            edited[step.path.partition("/")[0]].add(step.path)
    assert {service: len(files) for service, files in edited.items()} == {"product-service": 2, "user-service": 2}


def test_outside_its_folder_a_service_adds_one_line_to_each_of_two_files() -> None:
    changes = {step.path: step.content for step in SERVICE if step.kind == "change"}
    assert set(changes) == {"tools/services.py", "docker-compose.yml"}
    for change in changes.values():
        assert [line[0] for line in change.splitlines() if line[0] != " "] == ["+"]
    assert all(step.path.startswith("review-service/") for step in SERVICE if step.kind == "write")


def test_migrations_are_generated(project: Path) -> None:
    for service, message in (("product", "weight"), ("user", "email"), ("review", "reviews")):
        migrations = project / f"{service}-service" / "src" / f"{service}_service" / "migrations"
        assert [re.sub(r"\d+", "N", each.name) for each in migrations.glob(f"*_{message}.py")] == [
            f"{service}_service_N_{message}.py"
        ]


def test_new_fields_are_created_changed_recorded_exported_and_imported(ports: dict[str, int], tmp_path: Path) -> None:
    paste(block(FIELD, "curl"), ports, tmp_path)


def test_a_third_service_validates_tokens_with_a_real_user_service(ports: dict[str, int], tmp_path: Path) -> None:
    # Both pages register the same account.
    paste(block(SERVICE, "curl").replace("ada", "grace"), ports, tmp_path)


def test_the_image_of_a_third_service_runs_it_in_production(project: Path) -> None:
    dockerfile = (project / "review-service" / "Dockerfile").read_text(encoding="utf-8")
    assert "ENVIRONMENT=production" in dockerfile
    assert '"review_service"]' in dockerfile
    assert "product" not in dockerfile.replace("production", "")


def test_the_tests_and_checks_of_a_third_service_pass(project: Path) -> None:
    run(block(SERVICE, "dev.py test"), project)
