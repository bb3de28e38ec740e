"""The fixtures of the launcher's tests; `conftest.py` hands them on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from launcher.launching import Terminal, copy_with_standins


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Starts commands; what is still running when the test ends is ended."""
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher with stand-ins for the services and for the tools, installed."""
    return copy_with_standins(tmp_path_factory.mktemp("launcher") / "stand in")
