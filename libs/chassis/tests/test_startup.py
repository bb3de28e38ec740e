"""`chassis.process.startup`: no garbage is collected while a process starts."""

import gc
from collections.abc import Iterator

import pytest

from chassis.process.startup import importing


@pytest.fixture(autouse=True)
def _unfrozen() -> Iterator[None]:
    """The tests of this process go on with what was frozen before."""
    frozen = gc.get_freeze_count()
    yield
    if not frozen:
        gc.unfreeze()


def test_what_is_made_at_the_start_is_never_collected() -> None:
    with importing():
        assert not gc.isenabled()
        made: list[object] = []
    assert gc.isenabled()
    assert not any(made is each for each in gc.get_objects())


def test_a_failed_start_collects_garbage_again() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()
