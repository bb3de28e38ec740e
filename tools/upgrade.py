"""Runs the tests of an older version on databases that the present code has migrated."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.console import CommandError, say
from tools.environment import PYTHON
from tools.processes import run
from tools.services import ROOT

SUITES = ("user-service/tests", "product-service/tests")
PLUGIN = "tests/upgrade/present_schema.py"

LEFT_OUT = {
    "--ignore-glob=*_migration*.py": "the migrations of that version, one by one",
    "--deselect=product-service/tests/test_descriptions.py::test_downgrade_does_not_cut_descriptions": "a downgrade",
    "--deselect=user-service/tests/test_personal_data.py::"
    "test_an_export_has_every_column_of_the_account_and_its_sessions_but_hashes_and_keys": "that it knows each column",
}
"""Options of pytest that leave tests of the schema itself out, and what these test."""

WITHOUT_FLOORS = "libs/chassis/src/chassis/database/compatibility.py"
"""A version without this file was made before there were floors: it is unready on any newer database, and its commands
refuse one. Its tests of that can't pass if there is a newer migration."""

OF_READINESS = (
    "product-service/tests/test_product_commands.py::test_import_reads_standard_input",
    "product-service/tests/test_product_commands.py::test_import_reports_changes_and_refused_lines",
    "product-service/tests/test_product_commands.py::test_invalid_arguments_are_reported_in_one_line",
    "product-service/tests/test_product_commands.py::test_progress_is_shown_in_a_terminal",
    "product-service/tests/test_product_health.py::test_health_checks_are_logged_at_debug",
    "product-service/tests/test_product_health.py::test_health_shows_breaker_and_last_validation",
    "product-service/tests/test_product_health.py::test_user_service_outage_degrades_health_but_not_readiness",
    "product-service/tests/test_token_validation_faults.py::test_reads_stay_fast_while_protected_requests_hang",
    "user-service/tests/test_user_commands.py::test_a_terminal_prompts_twice_for_the_password_without_echo",
)


def run_suites(revision: str) -> int:
    """Run the services' tests of a revision on the present schema; returns the status of pytest."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if commit is None:
        raise CommandError(f"There is no revision {revision} in this repository.")
    with _checked_out(commit) as old:
        newer = sorted(_migrations(ROOT) - _migrations(old))
        refuses = bool(newer) and not (old / WITHOUT_FLOORS).exists()
        left_out = [*LEFT_OUT, *(f"--deselect={test}" for test in OF_READINESS if refuses)]
        environment = {**os.environ, "PRESENT_PYTHON": PYTHON, "PYTHONPATH": str((ROOT / PLUGIN).parent)}
        words = ["test", *SUITES, "-p", Path(PLUGIN).stem, *left_out]
        status = run([sys.executable, "dev.py", *words], old, env=environment).returncode
    say(f"The tests of {revision} ({commit[:12]}) {'failed' if status else 'passed'} on the present schema.")
    say("Migrations that it does not know: " + (", ".join(newer) or "none, so its schema is the present one") + ".")
    say("Tests of the schema of that version were left out:")
    for option, what in LEFT_OUT.items():
        say(f"  {option.partition('=')[2]}: {what}")
    if refuses:
        say("That version knows no floors: it is unready on a newer database, and its commands refuse it. Left out:")
        for test in OF_READINESS:
            say(f"  {test}")
    return status


def _migrations(tree: Path) -> set[str]:
    return {path.stem for path in tree.glob("*-service/src/*/migrations/*_[0-9]*.py")}


@contextlib.contextmanager
def _checked_out(commit: str) -> Iterator[Path]:
    """A folder with the files of a commit."""
    with tempfile.TemporaryDirectory(prefix="upgrade-", ignore_cleanup_errors=True) as folder:
        tree = Path(folder).resolve() / "old"
        if _git("worktree", "add", "--quiet", "--detach", str(tree), commit) is None:
            raise CommandError(f"The revision {commit} could not be checked out.")
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*words: str) -> str | None:
    """What git prints; None if it fails, which it explains itself."""
    try:
        ended = run(["git", *words], stdout=subprocess.PIPE)
    except FileNotFoundError:
        raise CommandError("This needs git.") from None
    return str(ended.stdout).strip() if ended.returncode == 0 else None
