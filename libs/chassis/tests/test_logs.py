"""`chassis.logs`: the two formats, and what is in neither."""

import json
import logging
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


def test_what_libraries_log_has_the_same_form() -> None:
    with logged() as log, structlog.contextvars.bound_contextvars(request_id="mine"):
        logging.getLogger("some.library").warning("%s of %d", "one", 2)
        logging.getLogger("uvicorn.error").info("started")
    assert [set(line) for line in log.lines] == [{"time", "level", "service", "message", "request_id"}] * 2
    assert [(line["message"], line["level"]) for line in log.lines] == [("one of 2", "warning"), ("started", "info")]


def test_outside_a_request_there_is_no_request_id() -> None:
    with logged() as log:
        logs.get("library").info("alone")
    assert "request_id" not in log.lines[0]


def test_below_the_level_nothing_is_logged() -> None:
    with logged("WARNING") as log:
        logs.get("library").info("too quiet")
        logging.getLogger("some.library").info("too quiet")
        logs.get("library").warning("loud")
    assert [line["message"] for line in log.lines] == ["loud"]


def test_the_chatter_of_libraries_stays_out() -> None:
    with logged("DEBUG") as log:
        for name in ("httpx", "httpcore.connection", "alembic.runtime.migration"):
            logging.getLogger(name).info("GET http://users.test/?token=%s", PASSWORD)
    assert log.text == ""


def test_uvicorns_own_access_log_stays_off() -> None:
    with logged("DEBUG") as log:
        access = logging.getLogger("uvicorn.access")
        access.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", f"/?token={PASSWORD}", "1.1", 200)
        access.error("not even this")
    assert log.text == ""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_is_logged_with_its_trace_and_without_its_local_variables(log_format: logs.LogFormat) -> None:
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


def test_the_console_has_a_line_for_people() -> None:
    with logged(log_format="console") as log, structlog.contextvars.bound_contextvars(request_id="mine"):
        logs.get("library").info("book lent", title="two\nlines")
    assert log.text.count("\n") == 1
    for word in ("book lent", "request_id=mine", "service=library", "[info"):
        assert word in log.text
    assert "\x1b[" not in log.text


def test_to_configure_again_replaces_the_first() -> None:
    with logged() as log:
        logs.configure("museum", "INFO", "json")
        logs.get("library").info("once")
    assert [line["service"] for line in log.lines] == ["museum"]


def test_the_audit_log_is_written_whatever_the_level() -> None:
    with logged("ERROR") as log:
        logs.get("museum").warning("a visitor")
        logs.get(f"{logs.AUDIT}.museum").info("the keys changed hands")
        logs.get(f"{logs.AUDIT}.museum").debug("nothing happened")
    assert [line["message"] for line in log.lines] == ["the keys changed hands"]
