"""Each service alone, in a copy without the other one."""

from pathlib import Path

from tests.launcher.launching import SERVICES, Terminal, copy_of_the_project, free_ports, posix_only

pytestmark = posix_only


def test_each_service_runs_without_the_folder_of_the_other(tmp_path: Path, terminal: Terminal) -> None:
    tree = copy_of_the_project(tmp_path / "the copy")
    port, _ = free_ports()
    for service, other in (SERVICES, SERVICES[::-1]):
        # The second round reuses .venv of the first one, which saves half of the time.
        (tree / other).rename(tmp_path / other)
        started = terminal.start(tree / f"start-{service}.sh", PORT=port)
        started.serves(port)
        started.process.terminate()
        started.status()
        assert terminal.refused(tree, "up").endswith(f"This copy of the project has no folder {other}.")
        (tmp_path / other).rename(tree / other)
