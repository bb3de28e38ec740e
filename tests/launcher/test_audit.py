"""The verdicts of `dev.py audit`, with stand-ins for its programs. tests/audit uses the real ones."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.launcher.launching import posix_only
from tools import audit
from tools.audit import Part, Verdict

pytestmark = posix_only

VULNERABLE = {"name": "lamp", "version": "1.0", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["1.1"]}]}
SAFE = {"name": "shelf", "version": "2.0", "vulns": []}
UNKNOWN = {"name": "stool", "skip_reason": "Dependency not found"}


def program(folder: Path, name: str, output: str, status: int = 0) -> Path:
    """A folder with a program that prints this to standard output, and a line to standard error."""
    file = folder / name
    code = f"import sys; print({output!r}); print('the reason', file=sys.stderr); sys.exit({status})"
    # A path with a space can't be in the first line.
    file.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)}\n")
    file.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("dependencies", "status", "verdict", "findings"),
    [
        ([SAFE], 0, Verdict.PASSED, []),
        ([SAFE, VULNERABLE], 1, Verdict.FAILED, ["lamp 1.0: CVE-2026-1, fixed in ['1.1']"]),
        # pip-audit exits with 0 although it has audited nothing, or not everything.
        ([], 0, Verdict.NOT_AUDITED, []),
        ([SAFE, UNKNOWN], 0, Verdict.NOT_AUDITED, []),
        (None, 1, Verdict.NOT_AUDITED, []),
    ],
)
def test_advisories(
    tmp_path: Path, dependencies: list[object] | None, status: int, verdict: Verdict, findings: list[str]
) -> None:
    output = "" if dependencies is None else json.dumps({"dependencies": dependencies})
    part = audit.advisories(program(tmp_path, "pip-audit", output, status), [])
    assert (part.verdict, list(part.findings)) == (verdict, findings)
    if dependencies is None:
        assert part.summary.endswith("the reason")


def test_insecure_code_is_found(tmp_path: Path) -> None:
    (tmp_path / "insecure.py").write_text("import subprocess\n\nsubprocess.run('ls', shell=True)\n")
    part = audit.code(tmp_path)
    assert part.verdict is Verdict.FAILED
    assert any("insecure.py:3" in each and "S602" in each for each in part.findings)


@pytest.mark.parametrize(
    ("entries", "permitted"),
    [
        ([{"license": {"id": "MIT"}}], True),
        ([{"expression": "Apache-2.0 AND BSD-2-Clause"}], True),
        ([{"expression": "GPL-3.0-only OR MIT"}], True),
        ([{"license": {"name": "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"}}], True),
        ([{"license": {"name": "License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)"}}], True),
        ([{"license": {"id": "GPL-3.0-only"}}], False),
        ([{"license": {"id": "MIT"}}, {"license": {"id": "GPL-3.0-only"}}], False),
        ([{"expression": "MIT AND GPL-3.0-only"}], False),
        ([{"expression": "GPL-3.0-only AND (BSD-3-Clause OR MIT OR Apache-2.0)"}], False),
        ([{"expression": "LGPL-3.0-only AND (GPL-3.0-only)"}], False),
        ([{"expression": "LGPL-3.0-only and GPL-3.0-only"}], False),
        ([{"expression": "LGPL-2.1-or-later"}], True),
        ([{"license": {"name": "License :: OSI Approved :: GNU Affero General Public License v3"}}], False),
        ([], False),
    ],
)
def test_licences(tmp_path: Path, entries: list[object], *, permitted: bool) -> None:
    output = json.dumps({"components": [{"name": "Big_Lamp", "version": "1.0", "licenses": entries}]})
    part = audit.licences(program(tmp_path, "cyclonedx-py", output), sys.executable, ["big-lamp", "not-installed"])
    assert (part.verdict is Verdict.PASSED) == permitted
    assert all(each.startswith("Big_Lamp 1.0: ") for each in part.findings)
    assert part.summary.startswith(f"1 packages, {int(not permitted)} findings; 1 locked")


def test_a_bill_of_materials_that_was_not_written_fails(tmp_path: Path) -> None:
    part = audit.bills_of_materials(program(tmp_path, "cyclonedx-py", "", status=1), tmp_path / "sbom")
    assert part.verdict is Verdict.FAILED
    assert "user-service: the reason" in part.findings


def test_a_part_that_can_not_run_leaves_the_results_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "code", lambda _: Part("code", Verdict.PASSED, "no findings"))
    monkeypatch.setenv("PATH", str(tmp_path))  # Without git.
    parts = audit.all_parts(tmp_path / "missing", tmp_path / "sbom", offline=True)
    verdicts = {part.name: part.verdict for part in parts}
    assert verdicts == {
        "advisories": Verdict.LEFT_OUT,
        "code": Verdict.PASSED,
        "secrets": Verdict.NOT_AUDITED,
        "licences": Verdict.NOT_AUDITED,
        "sbom": Verdict.NOT_AUDITED,
    }
    assert "needs git" in parts[2].summary
    assert audit.print_report(parts) == 2


def test_each_exception_has_a_reason() -> None:
    assert all(rule["reason"] for rules in audit.PERMITTED.values() for rule in rules)


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([Verdict.PASSED, Verdict.LEFT_OUT], 0),
        ([Verdict.PASSED, Verdict.NOT_AUDITED], 2),
        ([Verdict.NOT_AUDITED, Verdict.FAILED, Verdict.PASSED], 1),
    ],
)
def test_the_status_tells_the_worst_verdict(
    verdicts: list[Verdict], status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert audit.print_report([Part("lamps", each, "a summary", ["a finding"]) for each in verdicts]) == status
    first, finding, *_ = capfd.readouterr().out.splitlines()
    assert (first.split()[0], finding) == ("lamps", "  a finding")
