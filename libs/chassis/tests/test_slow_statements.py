"""`chassis.database.slow_statements`, on both databases."""

import pytest
from sqlalchemy import text

from chassis.errors import DatabaseBusy
from testkit.library import Library, add_shelf, logged, names, opened

ENDLESS = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n > :smallest)
    SELECT count(*) FROM numbers
"""


async def test_slow_statements_are_logged_without_values(library_url: str) -> None:
    with opened(library_url, slow_statement=1e-9) as library, logged() as log:
        await library.write(add_shelf("hunter2"))
        await library.read(names)
    statements = [line["statement"] for line in log.lines]
    assert any(each.startswith("INSERT INTO shelves") for each in statements)
    assert any(each.startswith("SELECT shelves.name") for each in statements)
    assert {(line["message"], line["level"]) for line in log.lines} == {("slow statement", "warning")}
    assert all(line["duration_ms"] >= 0 for line in log.lines)
    assert "hunter2" not in log.text


async def test_a_statement_that_times_out_is_logged(library_url: str) -> None:
    with (
        opened(library_url, timeout=0.5, slow_statement=0.4) as library,
        logged() as log,
        pytest.raises(DatabaseBusy),
    ):
        await library.read(lambda session: session.execute(text(ENDLESS), {"smallest": -4_711}))
    (line,) = log.lines
    assert line["message"] == "slow statement"
    assert line["duration_ms"] >= 400
    assert line["statement"].startswith("WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers")
    assert "4711" not in log.text


async def test_statements_below_the_limit_are_not_logged(library_url: str) -> None:
    with opened(library_url, slow_statement=60) as library, logged() as log:
        await library.write(add_shelf("poems"))
    assert log.text == ""


async def test_without_a_limit_nothing_listens(library: Library) -> None:
    for engine in (library._read_engine, library._write_engine):
        assert not engine.dispatch.after_cursor_execute
