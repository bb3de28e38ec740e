"""docs/add-a-service.md, followed on a copy of the project."""

from pathlib import Path

import pytest

from tests.documents import read
from tests.installation.following import apply, paste, run, running
from tests.launcher.launching import posix_only
from tests.pages import steps

pytestmark = posix_only

STEPS = list(steps(read("docs/add-a-service.md")))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return apply(STEPS, tmp_path_factory.mktemp("add a service") / "project")


def test_outside_its_folder_a_service_adds_one_line_to_each_of_two_files() -> None:
    changes = {step.path: step.content for step in STEPS if step.kind == "change"}
    assert set(changes) == {"tools/services.py", "docker-compose.yml"}
    for change in changes.values():
        assert [line[0] for line in change.splitlines() if line[0] != " "] == ["+"]
    assert all(step.path.startswith("review-service/") for step in STEPS if step.kind == "write")


def test_the_calls_of_the_page_are_answered_by_a_real_user_service(project: Path, tmp_path: Path) -> None:
    [block] = [step.content for step in STEPS if "curl" in step.content]
    with running(project, tmp_path, "review") as ports:
        paste(block, ports, tmp_path)


def test_the_tests_and_the_checks_of_the_page_pass(project: Path) -> None:
    [block] = [step for step in STEPS if "dev.py test" in step.content]
    run(block, project)
