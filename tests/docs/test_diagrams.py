"""The diagrams of the documentation are rendered from their sources."""

from pathlib import Path

import pytest

from tests.documents import ROOT
from tools import commands

SOURCES = sorted((ROOT / "docs/images").glob("*.d2"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_diagram_is_up_to_date(source: Path, tmp_path: Path) -> None:
    commands.render(source, tmp_path / "new.svg")
    assert source.with_suffix(".svg").read_text(encoding="utf-8") == (tmp_path / "new.svg").read_text(encoding="utf-8")


def test_there_is_a_diagram() -> None:
    assert SOURCES
