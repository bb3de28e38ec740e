"""Each service by itself, in a copy that holds nothing of the other one."""

from pathlib import Path

from tests.launcher.launching import SERVICES, Terminal, copy_of_the_project, free_ports, posix_only

pytestmark = posix_only


def test_each_service_installs_and_runs_where_the_other_ones_folder_is_missing(
    tmp_path: Path, terminal: Terminal
) -> None:
    tree = copy_of_the_project(tmp_path / "the copy")
    port, _ = free_ports()
    for service, other in (SERVICES, SERVICES[::-1]):
        # The second round finds the environment of the first, which saves half of the time and holds no code of ours.
        (tree / other).rename(tmp_path / other)
        started = terminal.start(tree / f"start-{service}.sh", PORT=port)
        started.serves(port)
        started.process.terminate()
        started.status(10)
        assert terminal.refused(tree, "up").endswith(f"This copy of the project has no folder {other}.")
        (tmp_path / other).rename(tree / other)
