"""`chassis.logs`: the two formats, and what must not be logged."""

import json
import logging
import re
from datetime import datetime, timedelta

import pytest
import structlog

from chassis import logs
from testkit.library import logged

PASSWORD = "hunter2"


def test_a_json_line_has_time_level_service_message_and_request_id() -> None:
    with logged() as log, structlog.contextvars.bound_contextvars(request_id="mine"):
        logs.get("library.loans").info("book lent", book_id=7, title="Zoë ☕\nnew line")
    (line,) = log.lines
    moment = datetime.fromisoformat(line.pop("time"))
    assert moment.utcoffset() == timedelta(0)
    assert line == {
        "level": "info",
        "service": "library",
        "message": "book lent",
        "request_id": "mine",
        "book_id": 7,
        "title": "Zoë ☕\nnew line",
    }
    assert "☕" in log.text


def test_library_logs_have_the_same_fields() -> None:
    with logged() as log, structlog.contextvars.bound_contextvars(request_id="mine"):
        logging.getLogger("some.library").warning("%s of %d", "one", 2)
        logging.getLogger("uvicorn.error").info("started")
    assert [set(line) for line in log.lines] == [{"time", "level", "service", "message", "request_id"}] * 2
    assert [(line["message"], line["level"]) for line in log.lines] == [("one of 2", "warning"), ("started", "info")]


def test_lines_outside_requests_have_no_request_id() -> None:
    with logged() as log:
        logs.get("library").info("alone")
    assert "request_id" not in log.lines[0]


def test_lines_below_the_level_are_dropped() -> None:
    with logged("WARNING") as log:
        logs.get("library").info("too quiet")
        logging.getLogger("some.library").info("too quiet")
        logs.get("library").warning("loud")
    assert [line["message"] for line in log.lines] == ["loud"]


def test_verbose_libraries_are_silenced() -> None:
    with logged("DEBUG") as log:
        for name in ("httpx", "httpcore.connection", "alembic.runtime.migration"):
            logging.getLogger(name).info("GET http://users.test/?token=%s", PASSWORD)
    assert log.text == ""


def test_the_uvicorn_access_log_is_off() -> None:
    with logged("DEBUG") as log:
        access = logging.getLogger("uvicorn.access")
        access.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", f"/?token={PASSWORD}", "1.1", 200)
        access.error("not even this")
    assert log.text == ""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_exceptions_have_a_traceback_without_local_variables(log_format: logs.LogFormat) -> None:
    def fail(attempt: str) -> None:
        password = attempt.upper()
        raise LookupError("no such account") from ValueError(len(password))

    with logged(log_format=log_format) as log:
        try:
            fail(PASSWORD)
        except LookupError:
            logs.get("library").exception("unexpected exception")
            logging.getLogger("some.library").exception("unexpected, too")
    assert log.text.count("LookupError: no such account") == 2
    assert log.text.count("in fail") >= 2
    assert PASSWORD not in log.text.replace("PASSWORD", "")
    assert PASSWORD.upper() not in log.text
    if log_format == "json":
        assert all("Traceback" in json.loads(line)["exception"] for line in log.text.splitlines())


def test_the_console_format_is_one_readable_line() -> None:
    with logged(log_format="console") as log, structlog.contextvars.bound_contextvars(request_id="mine"):
        logs.get("library").info("book lent", title="two\nlines", reader=None, shelf=3)
    time, line = log.text.split(" ", 1)
    assert re.fullmatch(r"[0-9]{2}:[0-9]{2}:[0-9]{2}", time)
    assert line == "info book lent title='two\\nlines' shelf=3 request_id=mine\n"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_control_character_reaches_a_terminal(log_format: logs.LogFormat) -> None:
    dangerous = "\x1b[31mred\x07\x9b1A\rforged\nline\t"
    with logged(log_format=log_format) as log:
        logs.get("library").info(f"book {dangerous}", title=dangerous, titles=[dangerous])
        logging.getLogger("some.library").warning("book %s", dangerous)
        try:
            raise LookupError(dangerous)
        except LookupError:
            logs.get("library").exception("unexpected")
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", log.text)
    assert log.text.count("forged") >= 5
    if log_format == "console":
        assert "\x9b" not in log.text
        assert log.text.startswith(tuple("012"))
        assert "book \\x1b[31mred\\x07\\x9b1A\\rforged\\nline\\t" in log.text


@pytest.mark.parametrize(
    "message",
    ["socket.accept() out of system resource\nsocket: 8", logs.TOO_MANY_CONNECTIONS, logs.TOO_MUCH_UNREAD],
)
def test_lines_that_clients_could_repeat_without_end_come_once_a_second(
    monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("chassis.logs.time.monotonic", lambda: now)
    for flood in logs._FLOODS.values():
        monkeypatch.setattr(flood, "_next", 0)
    logger = logging.getLogger("asyncio" if message.startswith("socket") else logs.CONNECTIONS)
    with logged() as log:
        for _ in range(5):
            for _ in range(100):
                logger.error(message)
            logger.error("another message")
            now += 0.5
    messages = [line["message"] for line in log.lines]
    assert (messages.count(message), messages.count("another message")) == (3, 5)


@pytest.mark.parametrize(("log_format", "shown"), [("json", "hall"), ("console", "shelf")])
def test_a_line_has_fields_for_one_format_alone(log_format: logs.LogFormat, shown: str) -> None:
    with logged(log_format=log_format) as log:
        logs.get("library").info(
            "book lent", **{logs.JSON_ONLY: {"place": "hall"}, logs.CONSOLE_ONLY: {"place": "shelf"}}
        )
    assert [word for word in ("hall", "shelf") if word in log.text] == [shown]


def test_the_console_shows_the_beginning_of_long_ids() -> None:
    context = {"request_id": "5f0c3a8e9d7b4c1f8a2e6d0b9c7f1e34", "trace_id": "a" * 32}
    with logged(log_format="console") as log, structlog.contextvars.bound_contextvars(**context):
        logs.get("library").info("book lent")
    assert log.text.endswith(" book lent request_id=5f0c3a8e trace_id=aaaaaaaa\n")


def test_a_second_configure_replaces_the_first() -> None:
    with logged() as log:
        logs.configure("museum", "INFO", "json")
        logs.get("library").info("once")
    assert [line["service"] for line in log.lines] == ["museum"]


def test_the_audit_log_ignores_the_level() -> None:
    with logged("ERROR") as log:
        logs.get("museum").warning("a visitor")
        logs.get(f"{logs.AUDIT}.museum").info("the keys changed hands")
        logs.get(f"{logs.AUDIT}.museum").debug("nothing happened")
    assert [line["message"] for line in log.lines] == ["the keys changed hands"]
