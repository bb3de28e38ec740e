"""docs/add-a-field.md, followed on a copy of the project."""

from collections import defaultdict
from pathlib import Path

from tests.documents import read
from tests.installation.following import apply, paste, running
from tests.launcher.launching import posix_only
from tests.pages import steps

pytestmark = posix_only

STEPS = list(steps(read("docs/add-a-field.md")))


def test_a_field_needs_two_files_edited_by_hand() -> None:
    edited: defaultdict[str, set[str]] = defaultdict(set)
    for step in STEPS:
        if step.kind == "change":
            edited[step.path.partition("/")[0]].add(step.path)
    assert {service: len(files) for service, files in edited.items()} == {"product-service": 2, "user-service": 2}
    assert not [step for step in STEPS if step.kind == "write"]


def test_the_fields_are_created_changed_recorded_exported_and_imported(tmp_path: Path) -> None:
    project = apply(STEPS, tmp_path / "project")
    for service, migration in (("product_service", "0006_weight"), ("user_service", "0004_email")):
        folder = project / service.replace("_", "-") / "src" / service / "migrations"
        assert (folder / f"{service}_{migration}.py").is_file()
    [block] = [step.content for step in STEPS if "curl" in step.content]
    with running(project, tmp_path) as ports:
        paste(block, ports, tmp_path)
