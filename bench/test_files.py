"""files.py imports and exports real files; that the figures are right is not tested."""

import sys

import pytest

from bench.files import STEPS, results_on


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_every_step_is_measured_(backend: str) -> None:
    _, _, *rows = results_on(backend, rows=5, steps=STEPS, formats=["ndjson"])
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [(file_format, step) for file_format, step, *_ in cells] == [("ndjson", step) for step in STEPS]
    assert all(int(rate.replace(",", "")) > 0 for _, _, rate, *_ in cells)
