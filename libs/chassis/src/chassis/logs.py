"""Logging: one structured line per event, as text for a terminal (`console`) or as a JSON object (`json`).

structlog formats the lines of the services and those that uvicorn, SQLAlchemy and Alembic log through the standard
library. Context, such as the request id, travels in contextvars, into worker threads as well.
"""

import asyncio
import io
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal, TextIO

import structlog
from structlog.dev import Column, KeyValueColumnFormatter
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

LogFormat = Literal["console", "json"]

AUDIT = "audit"
"""Loggers below this name ignore LOG_LEVEL: an operator who wants only warnings still needs the audit log."""

REQUEST = "request"
"""The event of the request log."""

CONSOLE_ONLY = "console_only"
"""The key of a dict with further fields of a line. The console shows them; JSON omits them."""

JSON_ONLY = "json_only"
"""The key of a dict with fields that would make a line too long for the console."""

SERVER_REQUEST_ID = "server_request_id"
"""The field with the service's own id of a request whose client has chosen `request_id`."""

CONNECTIONS = "chassis.connections"
"""The logger of the server's connections."""

TOO_MANY_CONNECTIONS = "too many connections: closed the one that had waited longest for its client"
"""An event of that logger."""

TOO_MUCH_UNREAD = "too many unread responses: closed the connection that had kept the most for the longest time"
"""Another event of that logger."""

_WIDTH = 110
"""Columns of a request line: 120, less the name of the service that `dev.py up` and `docker compose` put before it."""

_SHORT_ID = 8
_LONG_ID = 16


class _OncePerSecond(logging.Filter):
    """Drops further lines with this text within a second: clients must not be able to fill the disk."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self._message = message
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if self._message not in str(record.msg):
            return True
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + 1
        return True


# asyncio logs a traceback for each connection that it can't accept, thousands of times a second.
_FLOODS = {
    "asyncio": _OncePerSecond("socket.accept() out of system resource"),
    CONNECTIONS: _OncePerSecond("too many "),
}


# Loggers keep the list for good after their first line. So a second `configure` changes it in place.
_processors: list[Processor] = []


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders the lines of structlog directly. The base would copy each record, and format it twice."""

    def __init__(self, shared: Sequence[Processor], rendering: Sequence[Processor]) -> None:
        super().__init__(foreign_pre_chain=shared, processors=[self.remove_processors_meta, *rendering])
        self._rendering = rendering

    def format(self, record: logging.LogRecord) -> str:
        if not hasattr(record, "_logger"):
            return super().format(record)  # Logged through the standard library.
        event: Any = record.msg
        rendered = event.copy()
        for processor in self._rendering:
            rendered = processor(None, record.levelname.lower(), rendered)
        return str(rendered)


def configure(service: str, level: str, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send all logging of this process to one stream, in one format. A second call replaces the first.

    :param stream: defaults to standard output
    """
    stream = stream or sys.stdout

    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level]
    if log_format == "json":
        shared += [
            add_service,
            _for_json,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        ]
        rendering: list[Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        shared += [_for_console, structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False, key="time")]
        rendering = [_console_renderer(colors=stream.isatty())]
    _processors[:] = [*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter]
    structlog.configure(
        processors=_processors,
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter(shared, rendering))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    # `CatchAll` has already answered a cancelled request, and `RequestContext` has logged it.
    logging.getLogger("uvicorn.error").addFilter(_is_not_cancellation)
    for name, flood in _FLOODS.items():
        logging.getLogger(name).addFilter(flood)
    # `RequestContext` logs each request already, in more detail.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger(AUDIT).setLevel(logging.INFO)
    # httpx logs the URL of each call at INFO; the services log their calls to each other themselves.
    for noisy in ("httpx", "httpcore", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns, and quotes the header, whenever a client sends an invalid one.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)


def _for_json(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event.pop(CONSOLE_ONLY, None)
    event.update(event.pop(JSON_ONLY, {}))
    return event


def _for_console(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Shorten a line for people: no empty fields, the beginning of long ids, a request as one sentence."""
    extra = event.pop(CONSOLE_ONLY, {})
    event.pop(JSON_ONLY, None)
    fields = {key: value for key, value in event.items() if value is not None}
    ids = {key: fields.pop(key) for key in ("request_id", "trace_id") if key in fields}
    fields |= {key: value[:_SHORT_ID] if len(value) > _LONG_ID else value for key, value in ids.items()}
    if SERVER_REQUEST_ID in fields:
        fields["request_id"] += f"/{fields.pop(SERVER_REQUEST_ID)[:_SHORT_ID]}"
    if fields["event"] == REQUEST and "path" in extra:
        return _request_line(fields, **extra)
    return {**fields, **extra}


def _request_line(fields: EventDict, path: str, code: str | None) -> EventDict:
    method, status, duration = (fields.pop(key) for key in ("method", "status", "duration_ms"))
    result = f"{status} {duration} ms" + (f" {code}" if code else "")
    others = "".join(f" {key}={value}" for key, value in fields.items() if key not in ("event", "level"))
    taken = len(f"HH:MM:SS {fields['level']} {method}  {result}{others}")
    fields["event"] = f"{method} {_shortened(path, max(_WIDTH - taken, 12))} {result}"
    return fields


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def for_terminal(text: str, keep: str = "") -> str:
    """The text with an escape for each control character, which could move the cursor or forge a line.

    :param keep: control characters that stay
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in text
    )


def _message(text: object) -> str:
    return for_terminal(str(text).rstrip("\n"))


def _traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    # A local variable may hold a password: the plain formatter prints no variables.
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write(for_terminal(text.getvalue(), keep="\n"))


def _console_renderer(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    styles = structlog.dev.ConsoleRenderer.get_default_column_styles(colors)

    def value_only(style: str) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(None, style, styles.reset, _message)

    def as_text(value: Any) -> str:
        plain = str(value)
        return plain if plain and plain.isprintable() and " " not in plain else repr(value)

    levels = structlog.dev.ConsoleRenderer.get_default_level_styles(colors)
    return structlog.dev.ConsoleRenderer(
        columns=[
            Column("time", value_only(styles.timestamp)),
            Column("level", lambda _, level: f"{levels.get(level, '')}{level}{styles.reset}"),
            Column("event", value_only(styles.bright)),
            Column("", KeyValueColumnFormatter(styles.kv_key, styles.kv_value, styles.reset, as_text)),
        ],
        sort_keys=False,
        exception_formatter=_traceback,
    )


def _is_not_cancellation(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def audit(service: str, event: str, *, account_id: int | None, **fields: Any) -> None:
    """Write one line to the audit log of a service, at every LOG_LEVEL. It must never contain a secret.

    :param event: a short, stable name for what happened
    :param account_id: the account affected; not `user_id`, which is the caller in the request log
    """
    get(f"{AUDIT}.{service}").info(event, account_id=account_id, **fields, **{JSON_ONLY: {"audit": True}})


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module. Call this when logging or in a constructor, not on import."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
