"""DATA_DIR: private to its owner, and reported in one line if it is unusable."""

import stat
from pathlib import Path

from testkit.processes import Service


def test_only_the_owner_has_access_to_the_folder_and_its_files(tmp_path: Path) -> None:
    service = Service("user-service", tmp_path / "users")
    try:
        service.start().wait_ready()
        assert stat.S_IMODE(service.data.stat().st_mode) == 0o700
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in service.data.iterdir()}
        assert {"secret-key", "user-service.db", "user-service.db-wal"} <= set(modes)
        assert set(modes.values()) == {0o600}
    finally:
        service.close()


def test_an_unreadable_key_stops_the_service_before_it_starts_workers(tmp_path: Path) -> None:
    service = Service("user-service", tmp_path / "users", WORKERS="2")
    (service.data / "secret-key").mkdir(parents=True)
    try:
        assert service.start().wait_ended() == 2
        reasons = [line for line in service.log.splitlines() if line.startswith("cannot start: ")]
        assert len(reasons) == 1
        assert "secret-key" in reasons[0]
        assert "Traceback" not in service.log
    finally:
        service.close()
