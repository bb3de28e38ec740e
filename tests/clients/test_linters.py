"""The linters of OpenAPI documents report nothing: neither errors nor warnings."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.clients.packages import FOLDER, command
from tests.launcher.launching import ROOT, SERVICES


def lint(linter: str, document: Path) -> list[str]:
    """The names of the rules that the document breaks."""
    words = {
        "spectral": command("@stoplight/spectral-cli", "lint", "--quiet", "--ruleset=spectral.yaml", "--format=json"),
        "redocly": command("@redocly/cli", "lint", "--config=redocly.yaml", "--format=json"),
    }[linter]
    run = subprocess.run([*words, str(document)], cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False)
    try:
        report = json.loads(run.stdout)
    except ValueError:
        pytest.fail(run.stdout + run.stderr)
    if linter == "spectral":
        return [each["code"] for each in report]
    return [each["ruleId"] for each in report["problems"]]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("linter", ["spectral", "redocly"])
def test_a_linter_reports_nothing(linter: str, service: str) -> None:
    assert lint(linter, ROOT / service / "openapi.json") == []


def test_a_linter_reports_errors_and_warnings(tmp_path: Path) -> None:
    document = json.loads((ROOT / "user-service" / "openapi.json").read_text(encoding="utf-8"))
    del document["info"]["contact"], document["info"]["license"], document["paths"]["/me"]["get"]["security"]
    document["paths"]["/me"]["get"]["operationId"] = "register"
    (tmp_path / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
    assert set(lint("spectral", tmp_path / "openapi.json")) == {"info-contact", "operation-operationId-unique"}
    assert {"info-license", "security-defined"} <= set(lint("redocly", tmp_path / "openapi.json"))
