"""Times in responses."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import BaseModel

from chassis.times import Time, format_time

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NEW_YEAR, "2026-01-01T00:00:00.000000Z"),
        (NEW_YEAR + timedelta(microseconds=120), "2026-01-01T00:00:00.000120Z"),
        (NEW_YEAR.astimezone(timezone(timedelta(hours=2))), "2026-01-01T00:00:00.000000Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_all_times_have_one_width(moment: datetime, text: str) -> None:
    assert format_time(moment) == text
    assert datetime.fromisoformat(text) == moment


def test_type_is_documented_as_a_time() -> None:
    class Event(BaseModel):
        at: Time | None

    assert Event(at=NEW_YEAR).model_dump_json() == '{"at":"2026-01-01T00:00:00.000000Z"}'
    assert Event(at=None).model_dump_json() == '{"at":null}'
    times = Event.model_json_schema(mode="serialization")["properties"]["at"]["anyOf"]
    assert times == [{"type": "string", "format": "date-time"}, {"type": "null"}]
