"""`dev.py make-secrets`: the secrets of compose.production.yml."""

import re
from pathlib import Path

import pytest

from tests.launcher.launching import ROOT, posix_only
from tools.console import CommandError
from tools.production import write_secrets


@posix_only
def test_each_secret_gets_a_file_that_stays(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "secrets"
    written = write_secrets(folder)
    contents = {path.name: path.read_text() for path in folder.iterdir()}
    assert sorted(written) == sorted(contents)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}
    assert contents["service_keys"] == f"product-service:{contents['service_key']}"
    random = [contents[name] for name in contents if name not in ("service_keys", "secret_keys_accepted")]
    assert len(set(random)) == len(random)
    assert min(map(len, random)) == 64

    (folder / "secret_key").unlink()
    assert write_secrets(folder) == ["secret_key"]
    assert {path.name for path in folder.iterdir() if path.read_text() != contents[path.name]} == {"secret_key"}


def test_a_missing_key_is_not_made_beside_the_keys_that_it_is_one_of(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    (tmp_path / "service_key").unlink()
    with pytest.raises(CommandError, match="service_keys exists, but not service_key"):
        write_secrets(tmp_path)


def test_these_are_the_secrets_of_the_compose_file(tmp_path: Path) -> None:
    composition = (ROOT / "compose.production.yml").read_text(encoding="utf-8")
    assert sorted(write_secrets(tmp_path)) == sorted(re.findall(r"file: .*/(\w+)\"", composition))
