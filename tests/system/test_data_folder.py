"""The folder of the data: closed to others, and said to be unusable in one line where it is."""

import stat
from pathlib import Path

from testkit.processes import Service


def test_the_folder_and_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    service = Service("user-service", tmp_path / "users")
    try:
        service.start().wait_ready()
        assert stat.S_IMODE(service.data.stat().st_mode) == 0o700
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in service.data.iterdir()}
        assert {"secret-key", "user-service.db", "user-service.db-wal"} <= set(modes)
        assert set(modes.values()) == {0o600}
    finally:
        service.close()


def test_a_key_that_cannot_be_read_stops_the_start_before_any_worker(tmp_path: Path) -> None:
    service = Service("user-service", tmp_path / "users", WORKERS="2")
    (service.data / "secret-key").mkdir(parents=True)
    try:
        assert service.start().wait_ended() == 2
        told = [line for line in service.log.splitlines() if line.startswith("cannot start: ")]
        assert len(told) == 1
        assert "secret-key" in told[0]
        assert "Traceback" not in service.log
    finally:
        service.close()
