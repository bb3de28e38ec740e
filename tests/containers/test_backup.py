"""Backup and restore in containers, with the commands of docs/backup.md."""

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.containers.composition import Composition
from tests.documents import read


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="gives a folder to the user of the image")
def test_both_services_are_restored_from_their_backups(composed: Composition, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir(mode=0o700)
    os.chown(backups, 10001, 10001)
    services = composed.services
    owner = services.sign_up()
    product = services.create_product(owner)
    commands = re.findall(r"^ *docker (compose run .*)$", read("docs/backup.md"), re.MULTILINE)
    assert len(commands) == 4
    for command in commands[:2]:
        composed.compose(*shlex.split(command.replace("$PWD", str(tmp_path)))[1:])
    composed.compose("down", "--volumes")
    for command in commands[2:]:
        composed.compose(*shlex.split(command.replace("$PWD", str(tmp_path)))[1:])
    composed.up()
    assert services.log_in(owner.username, owner.password)
    with services.products.client() as client:
        assert client.get(f"/products/{product['id']}").json() == product
