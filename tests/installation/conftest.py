"""Fixtures of the tests of the installation."""

from pathlib import Path

import pytest

from tests.launcher.launching import copy_with_standins, install_standins


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher with stand-ins for the services and for the tools, but with the real pip."""
    return install_standins(copy_with_standins(tmp_path_factory.mktemp("launcher") / "stand in"))
