"""Logging: one structured line per event, as text for a terminal (`console`) or as a JSON object (`json`).

structlog formats the lines of the services and those that uvicorn, SQLAlchemy and Alembic log through the standard
library. Context, such as the request id, travels in contextvars, into worker threads as well.
"""

import asyncio
import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["console", "json"]

AUDIT = "audit"
"""Loggers below this name ignore LOG_LEVEL: an operator who wants only warnings still needs the audit log."""


def configure(service: str, level: str, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send all logging of this process to one stream, in one format. A second call replaces the first.

    :param stream: defaults to standard output
    """
    stream = stream or sys.stdout

    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        add_service,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    if log_format == "json":
        rendering: list[Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        # A local variable in a traceback may hold a password: the plain formatter prints no variables.
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(),
                timestamp_key="time",
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    # `CatchAll` has already answered a cancelled request, and `RequestContext` has logged it.
    logging.getLogger("uvicorn.error").addFilter(_is_not_cancellation)
    # `RequestContext` logs each request already, in more detail.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger(AUDIT).setLevel(logging.INFO)
    # httpx logs the URL of each call at INFO; the services log their calls to each other themselves.
    for noisy in ("httpx", "httpcore", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns, and quotes the header, whenever a client sends an invalid one.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)


def _is_not_cancellation(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module. Call this when logging or in a constructor, not on import."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
