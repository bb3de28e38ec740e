"""The Postman collection is current, and newman runs all of it, again and again."""

import json
import subprocess
from pathlib import Path

from testkit.processes import Services
from tests.clients.packages import command
from tests.launcher.launching import ROOT, SERVICES
from tools.commands import POSTMAN_COLLECTION
from tools.postman import collection
from tools.services import SERVICES as ALL

COMMITTED = ROOT / POSTMAN_COLLECTION


def test_the_committed_collection_is_current() -> None:
    """Run `python3 dev.py openapi` to generate it."""
    documents = {
        name: (f"http://localhost:{ALL[name].port}", json.loads((ROOT / name / "openapi.json").read_text("utf-8")))
        for name in SERVICES
    }
    assert json.loads(COMMITTED.read_text("utf-8")) == collection(documents)


def newman(services: Services, folder: Path, *options: str) -> list[tuple[str, int, bool]]:
    """Run the collection; returns the name of each request, its status, and whether its test passed."""
    report = folder / "report.json"
    variables = {"user_service": services.users.url, "product_service": services.products.url}
    words = ["run", COMMITTED, "--reporters", "json", "--reporter-json-export", report, *options]
    for name, url in variables.items():
        words += ["--env-var", f"{name}={url}"]
    run = subprocess.run(command("newman", *words), capture_output=True, text=True, timeout=120, check=False)
    result = json.loads(report.read_text("utf-8"))["run"]
    assert (run.returncode == 0) == (not result["failures"]), run.stdout + run.stderr
    # The requests that a script makes are reported as additional executions of its item.
    items = {each["item"]["id"]: each for each in result["executions"] if each["assertions"]}
    return [
        (each["item"]["name"], each["response"]["code"], all("error" not in test for test in each["assertions"]))
        for each in items.values()
    ]


def test_newman_runs_the_collection_twice(services: Services, tmp_path: Path) -> None:
    for _ in range(2):
        results = newman(services, tmp_path)
        assert len(results) == sum(
            len(operations)
            for name in SERVICES
            for operations in json.loads((ROOT / name / "openapi.json").read_text("utf-8"))["paths"].values()
        )
        assert [each for each in results if not each[2]] == []
        refused = {name for name, status, _ in results if status >= 400}
        for_admins = json.loads((ROOT / "user-service/openapi.json").read_text("utf-8"))["paths"]
        assert refused == {
            operation["summary"]
            for path, operations in for_admins.items()
            for operation in operations.values()
            if path.startswith("/users")
        }


def test_a_request_can_be_sent_by_itself(services: Services, tmp_path: Path) -> None:
    assert newman(services, tmp_path, "--folder", "Create a product") == [("Create a product", 201, True)]
    assert newman(services, tmp_path, "--folder", "Refresh the tokens") == [("Refresh the tokens", 200, True)]


def test_newman_reports_a_wrong_status(services: Services, tmp_path: Path) -> None:
    result = newman(services, tmp_path, "--folder", "Create a product", "--env-var", "token=wrong")
    assert result == [("Create a product", 401, False)]
