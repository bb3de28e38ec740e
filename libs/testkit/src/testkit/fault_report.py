"""Prints the table of faults and outcomes at the end of a run of `test_token_validation_faults.py`."""

from typing import Any

import pytest

PROPERTY = "token validation fault"
_HEADINGS = ("fault of the user service", "expected", "actual", "ms")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows: list[tuple[str, ...]] = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties: list[tuple[str, Any]] = getattr(report, "user_properties", [])
            rows += [tuple(value) for name, value in properties if name == PROPERTY and report.when == "call"]
    if not rows:
        return
    rows.sort(key=lambda row: int(row[0]))
    table = [_HEADINGS, *(row[1:] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADINGS))]
    terminalreporter.section("faults in token validation")
    for row in table:
        *texts, milliseconds = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        terminalreporter.write_line("  ".join([*texts, milliseconds.strip().rjust(widths[-1])]))
