"""One warning for each statement that takes long."""

import time
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, event
from sqlalchemy.engine.interfaces import DBAPICursor

from chassis import logs

MAX_STATEMENT = 2000
"""Characters of a statement in the log."""


def log_slow_statements(engine: Engine, seconds: float) -> None:
    """Log each statement that takes at least so long, whether it succeeds or not: its text, without any values.

    The time is that until the database has accepted the statement, and returned the first row. On SQLite, reading more
    rows may take longer.
    """
    log = logs.get("chassis.database")

    @event.listens_for(engine, "before_cursor_execute")
    def start(
        _connection: Connection, _cursor: DBAPICursor, _statement: str, _parameters: Any, context: Any, *_: Any
    ) -> None:
        context.started = time.perf_counter()

    @event.listens_for(engine, "after_cursor_execute")
    def succeed(
        _connection: Connection, _cursor: DBAPICursor, statement: str, _parameters: Any, context: Any, *_: Any
    ) -> None:
        end(statement, context)

    @event.listens_for(engine, "handle_error")
    def fail(error: ExceptionContext) -> None:
        if error.statement is not None:
            end(error.statement, error.execution_context)

    def end(statement: str, context: Any) -> None:
        started = getattr(context, "started", None)  # None if the statement was not sent.
        if started is not None and (took := time.perf_counter() - started) >= seconds:
            text = " ".join(statement.split())
            log.warning("slow statement", duration_ms=round(took * 1000, 1), statement=text[:MAX_STATEMENT])
