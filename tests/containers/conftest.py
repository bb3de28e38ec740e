"""The fixtures of the tests of the containers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.processes import Pair
from tests.containers.composition import Composition, composition
from tests.launcher.launching import copy_of_the_project


@pytest.fixture(scope="session")
def clean_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a fresh clone has."""
    return copy_of_the_project(tmp_path_factory.mktemp("containers") / "clone")


@pytest.fixture(scope="session")
def composed(clean_copy: Path) -> Iterator[Composition]:
    """The system, running for all tests; a test that stops a part of it starts it again."""
    with composition(clean_copy) as made:
        made.up()
        yield made


@pytest.fixture
def services(composed: Composition) -> Pair:
    return composed.services
