"""Logging: one structured line per event, readable on a terminal (`console`) or one JSON object (`json`).

structlog formats what the services log themselves and what uvicorn, SQLAlchemy and Alembic log through the
standard library. Context (the request id) travels in contextvars, also into worker threads.
"""

import asyncio
import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["console", "json"]

AUDIT = "audit"
"""The loggers below this name are not silenced by a level: who asks for warnings only still wants these lines."""


def configure(service: str, level: str, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send all logging of this process to one stream, in one format. Calling it again replaces the first.

    :param stream: None is standard output
    """
    stream = stream or sys.stdout

    def name_the_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        name_the_service,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    if log_format == "json":
        rendering: list[Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        # A local variable of a failing frame may hold a password: the plain formatter prints none.
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
    # A request that is cancelled has been answered, and logged, by `CatchAll`.
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    # There is one line per request already, with more in it.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger(AUDIT).setLevel(logging.INFO)
    # httpx logs each call with its address at INFO; the services log their calls to each other themselves.
    for noisy in ("httpx", "httpcore", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns, and quotes the header, whenever a client sends an invalid one.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; to be called where a line is logged or in a constructor, not at import."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
