"""Audits the project: vulnerabilities, insecure code, secrets, licences, and a bill of materials for each service.

What it permits, and why, is in audit.toml. The programs have an environment of their own: `environment.TOOLS`.
"""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tools.console import CommandError, say
from tools.environment import PYTHON
from tools.processes import run
from tools.services import ROOT, services_present

PERMITTED = tomllib.loads(Path(__file__).with_name("audit.toml").read_text(encoding="utf-8"))
UNWANTED_FILTERS = ("allowlist.is_line_allowlisted", "heuristic.is_lock_file", "heuristic.is_swagger_file")
"""Filters of detect-secrets that hide findings for a comment in the line, or for the name of the file."""


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "FAILED"
    NOT_AUDITED = "NOT AUDITED"
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class Part:
    """The result of one part of the audit."""

    name: str
    verdict: Verdict
    summary: str
    findings: Sequence[str] = ()


def print_report(parts: Sequence[Part]) -> int:
    """Print a line for each part, and its findings; returns 1 if a part failed, 2 if one could not run, or 0."""
    for part in parts:
        say(f"{part.name:<12}{part.verdict:<13}{part.summary}")
        for finding in part.findings:
            say(f"  {finding}")
    verdicts = {part.verdict for part in parts}
    return 1 if Verdict.FAILED in verdicts else 2 if Verdict.NOT_AUDITED in verdicts else 0


def all_parts(programs: Path, sboms: Path, *, offline: bool) -> list[Part]:
    """The audit.

    :param programs: the folder of the programs in requirements-audit.txt
    :param sboms: the folder for the bills of materials
    :param offline: leave out what needs a network
    """
    skipped = Part("advisories", Verdict.LEFT_OUT, "vulnerabilities were not looked up, because of --offline")
    parts: dict[str, Callable[[], Part]] = {
        "advisories": lambda: skipped if offline else advisories(programs, _locks()),
        "code": lambda: code(ROOT),
        "secrets": lambda: secrets(programs, ROOT),
        "licences": lambda: licences(programs, PYTHON, _names(_locks())),
        "sbom": lambda: bills_of_materials(programs, sboms),
    }
    return [_audited(name, part) for name, part in parts.items()]


def _audited(name: str, part: Callable[[], Part]) -> Part:
    """The result of a part, or that it could not run: the other parts still count."""
    try:
        return part()
    except (CommandError, OSError) as problem:
        return Part(name, Verdict.NOT_AUDITED, str(problem))


def advisories(programs: Path, locks: Sequence[Path]) -> Part:
    """Look for known vulnerabilities of the services' requirements, with pip-audit."""
    ignored = [f"--ignore-vuln={each['id']}" for each in PERMITTED["advisories"]]
    # pip-audit stops at the first package that its service does not know, as without a network; exit statuses don't
    # tell that from a vulnerability.
    options = ["--strict", "--disable-pip", "--require-hashes", "--format=json", "--progress-spinner=off", *ignored]
    requirements = [f"--requirement={lock}" for lock in locks]
    ended = _captured([str(programs / "pip-audit"), *options, *requirements])
    try:
        audited = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (ended.stderr.strip() or "pip-audit printed nothing").splitlines()[-1]
        audited = []
    else:
        reason = next((each["skip_reason"] for each in audited if "skip_reason" in each), "no package was audited")
    if not audited or any("skip_reason" in each for each in audited):
        summary = (
            f"vulnerabilities are unknown, because the advisory service did not respond as expected: {reason:.200}"
        )
        return Part("advisories", Verdict.NOT_AUDITED, summary)
    found = [
        f"{each['name']} {each['version']}: {advisory['id']}, fixed in {advisory['fix_versions'] or 'no version'}"
        for each in audited
        for advisory in each["vulns"]
    ]
    summary = f"{len(audited)} packages, {len(found)} known vulnerabilities, {len(ignored)} permitted"
    return Part("advisories", Verdict.FAILED if found or ended.returncode else Verdict.PASSED, summary, found)


def code(folder: Path) -> Part:
    """Check the security rules of ruff; exceptions are in pyproject.toml and beside the code."""
    words = ["check", "--select=S", "--output-format=concise", "--quiet", str(folder)]
    ended = _captured([PYTHON, "-m", "ruff", *words])
    found = ended.stdout.splitlines()
    if ended.returncode and not found:
        raise CommandError(f"ruff failed: {ended.stderr.strip()}")
    return Part("code", Verdict.FAILED if found else Verdict.PASSED, f"{len(found)} findings of ruff's rules S", found)


def secrets(programs: Path, folder: Path) -> Part:
    """Look for secrets in the tracked files, with detect-secrets."""
    if not shutil.which("git") or (listed := _captured(["git", "ls-files", "-z"], folder)).returncode:
        raise CommandError("The search for secrets needs git and a git repository: it takes the tracked files.")
    left_out = [each["files"] for each in PERMITTED["generated"]]
    tracked = [
        name
        for name in listed.stdout.split("\0")
        if (folder / name).is_file() and not any(fnmatch(name, pattern) for pattern in left_out)
    ]
    # detect-secrets skips these extensions whatever its options are.
    ask = "from detect_secrets.filters.heuristic import IGNORED_FILE_EXTENSIONS as all; print(*all)"
    extensions = _captured([str(programs / Path(PYTHON).name), "-c", ask]).stdout.split()
    files = [name for name in tracked if Path(name).suffix not in extensions]
    # Verification would send each possible secret to the service that it may be for.
    options = ["--no-verify", *(f"--disable-filter=detect_secrets.filters.{each}" for each in UNWANTED_FILTERS)]
    ended = _captured([str(programs / "detect-secrets"), "scan", *options, "--", *files], folder)
    if ended.returncode:
        raise CommandError(f"detect-secrets failed: {ended.stderr.strip()}")
    found, permitted = [], 0
    for name, occurrences in json.loads(ended.stdout)["results"].items():
        lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
        for each in occurrences:
            if any(_permits(rule, name, each["type"], lines[each["line_number"] - 1]) for rule in PERMITTED["secrets"]):
                permitted += 1
            else:
                found.append(f"{name}:{each['line_number']}: {each['type']}")  # Not the line: this may be a log.
    summary = f"{len(files)} files, {len(found)} findings, {permitted} permitted samples"
    if skipped := len(tracked) - len(files):
        summary += f"; skipped for their extensions: {skipped}"
    return Part("secrets", Verdict.FAILED if found else Verdict.PASSED, summary, found)


def _permits(rule: Mapping[str, Any], name: str, kind: str, line: str) -> bool:
    return (
        any(fnmatch(name, pattern) for pattern in rule.get("files", ["*"]))
        and kind in rule["types"]
        and re.search(rule.get("line", ""), line) is not None
    )


def licences(programs: Path, python: str, names: Sequence[str]) -> Part:
    """Check the licences of these packages, as far as they are installed for this Python, with cyclonedx-py."""
    ended = _captured([str(programs / "cyclonedx-py"), "environment", "--no-validate", python])
    if ended.returncode:
        raise CommandError(f"cyclonedx-py failed: {ended.stderr.strip()}")
    packages = {_normal(each["name"]): each for each in json.loads(ended.stdout)["components"]}
    installed = [packages[name] for name in names if name in packages]
    found = []
    for each in installed:
        known = [_licence(entry) for entry in each.get("licenses", [])]
        unnamed = not known and _normal(each["name"]) in {rule["package"] for rule in PERMITTED["unnamed_licences"]}
        if not unnamed and not (known and all(map(_is_permitted, known))):
            found.append(f"{each['name']} {each['version']}: {', '.join(known) or 'unknown'}")
    missing = len(names) - len(installed)
    summary = f"{len(installed)} packages, {len(found)} findings; {missing} locked ones are for other systems"
    return Part("licences", Verdict.FAILED if found or not installed else Verdict.PASSED, summary, found)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _licence(entry: Mapping[str, Any]) -> str:
    """The expression, the id in SPDX, or the last part of the classifier."""
    licence = entry.get("license", {})
    text: str = entry.get("expression") or licence.get("id") or licence["name"]
    return text.rpartition(" :: ")[2]


def _is_permitted(expression: str) -> bool:
    """Whether one of the alternatives has only permitted licences. An expression with parentheses is not evaluated."""
    if "(" in expression and re.search(" (AND|OR) ", expression):
        return False

    def permits(licence: str) -> bool:
        return any(re.fullmatch(rule["name"], licence) for rule in PERMITTED["licences"])

    return any(all(map(permits, part.split(" AND "))) for part in expression.split(" OR "))


def bills_of_materials(programs: Path, folder: Path) -> Part:
    """Write a bill of materials in CycloneDX for each service, validated against the schema of the format."""
    folder.mkdir(parents=True, exist_ok=True)
    written, failed = [], []
    for service in services_present():
        source, target = ROOT / service.folder, folder / f"{service.folder}.cdx.json"
        target.unlink(missing_ok=True)
        options = [
            "--pyproject",
            str(source / "pyproject.toml"),
            "--output-reproducible",
            "--validate",
            "-o",
            str(target),
        ]
        words = [str(programs / "cyclonedx-py"), "requirements", *options, str(source / "requirements.txt")]
        ended = _captured(words)
        if ended.returncode or not target.is_file():
            failed.append(f"{service.folder}: {(ended.stderr.strip() or 'no file').splitlines()[-1]}")
            continue
        listed = {each["name"].lower() for each in json.loads(target.read_text(encoding="utf-8"))["components"]}
        failed += [
            f"{target.name} lacks {name}" for name in _names([source / "requirements.txt"]) if name not in listed
        ]
        written.append(f"{target.name} ({len(listed)} packages)")
    summary = f"{', '.join(written) or 'nothing written'} in {folder}"
    return Part("sbom", Verdict.FAILED if failed else Verdict.PASSED, summary, failed)


def _locks() -> list[Path]:
    return [ROOT / service.folder / "requirements.txt" for service in services_present()]


def _names(locks: Sequence[Path]) -> list[str]:
    """The names of the packages in lock files."""
    texts = (lock.read_text(encoding="utf-8") for lock in locks)
    return sorted({name for text in texts for name in re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE)})


def _captured(command: Sequence[str], folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return run(command, folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
