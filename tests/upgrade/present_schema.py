"""A pytest plugin for the tests of an older version: whatever they migrate gets the present schema.

`python3 dev.py test-upgrade` gives it to the pytest of that version. Wherever that version migrates a database to its
latest revision, the present code, in its own environment, migrates it on. Nothing else of it changes.
"""

import os
import subprocess
import tempfile
from typing import Any

from chassis.database.migrations import Migrations

_own_upgrade = Migrations.upgrade


def _upgrade(self: Migrations, revision: str = "head", **options: Any) -> bool:
    changed = _own_upgrade(self, revision, **options)
    if revision == "head" and not options.get("dry_run"):
        _migrate_on(self._service, self._url)
    return changed


def _migrate_on(service: str, database_url: str) -> None:
    command = [os.environ["PRESENT_PYTHON"], "-m", service, "migrate"]
    with tempfile.TemporaryDirectory() as folder:  # Without a `.env`.
        present = subprocess.run(
            command, cwd=folder, env={"DATABASE_URL": database_url}, capture_output=True, text=True, check=False
        )
    assert present.returncode == 0, present.stderr


Migrations.upgrade = _upgrade  # type: ignore[method-assign]
