"""That the programs of `dev.py audit` find what they are there for."""

import subprocess
from pathlib import Path

import pytest

from tools import audit
from tools.audit import Verdict
from tools.environment import PYTHON, install_tools
from tools.services import ROOT

KEY = "AKIA" + "QZ7TR2M4XW9PLK3V"  # Not in one piece, so that the audit of this file does not find it.


@pytest.fixture(scope="session")
def programs() -> Path:
    return install_tools("audit")


def test_a_secret_in_a_tracked_file_is_found_and_not_printed(programs: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "README.md").write_text('{"password": "correct horse battery staple"}\n')
    (tmp_path / "untracked").write_text(f"key = {KEY}\n")
    subprocess.run(["git", "add", "README.md"], cwd=tmp_path, check=True)
    assert audit.secrets(programs, tmp_path).verdict is Verdict.PASSED
    (tmp_path / "deploy.py").write_text(f"# The key\nkey = '{KEY}'\n")
    subprocess.run(["git", "add", "deploy.py"], cwd=tmp_path, check=True)
    part = audit.secrets(programs, tmp_path)
    assert part.verdict is Verdict.FAILED
    assert "deploy.py:2: AWS Access Key" in part.findings
    assert KEY not in str(part)


def test_neither_comments_nor_names_of_files_hide_a_secret(programs: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    names = ["-n.py", "Package.resolved", "swagger.yml"]
    for name in names:
        (tmp_path / name).write_text(f"a = '{KEY}'  # pragma: allowlist secret\n")
    (tmp_path / "next.py").write_text(f"# pragma: allowlist nextline secret\nkey = '{KEY}'\n")
    (tmp_path / "icon.svg").write_text(KEY)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    part = audit.secrets(programs, tmp_path)
    assert {each.partition(":")[0] for each in part.findings} == {*names, "next.py"}
    assert part.summary.startswith("4 files,")
    assert part.summary.endswith("skipped for their extensions: 1")


def test_a_forbidden_licence_is_found(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "forbidden-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: forbidden\nVersion: 1.0\nLicense-Expression: GPL-3.0-only\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    part = audit.licences(programs, PYTHON, ["forbidden", "uvicorn"])
    assert part.verdict is Verdict.FAILED
    assert part.findings == ["forbidden 1.0: GPL-3.0-only"]


def test_without_a_network_nothing_is_audited(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    part = audit.advisories(programs, [ROOT / "user-service" / "requirements.txt"])
    assert part.verdict is Verdict.NOT_AUDITED
    assert audit.print_report([part]) == 2


def test_each_service_gets_a_bill_of_materials_with_all_of_its_packages(programs: Path, tmp_path: Path) -> None:
    part = audit.bills_of_materials(programs, tmp_path)
    assert part.verdict is Verdict.PASSED
    bill = (tmp_path / "product-service.cdx.json").read_text(encoding="utf-8")
    assert '"bomFormat": "CycloneDX"' in bill
    assert "pkg:pypi/httpx-aiohttp@" in bill
