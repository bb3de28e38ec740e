"""`chassis.database.models` on both databases: datetimes of different time zones."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import DateTime, MetaData, make_url, select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis.database.models import COLUMN_TYPES, NEVER_REUSE_IDS, Numbered, UtcDateTime
from testkit.library import Library, connection_to, opened, rows


class Diary(DeclarativeBase):
    metadata = MetaData()
    type_annotation_map = COLUMN_TYPES


class Entry(Numbered, Diary):
    __tablename__ = "entries"
    __table_args__ = (NEVER_REUSE_IDS,)

    at: Mapped[datetime]
    ended: Mapped[datetime | None] = mapped_column(default=None)


@pytest.fixture
def diary(empty_url: str) -> Iterator[Library]:
    with connection_to(empty_url) as connection:
        Diary.metadata.create_all(connection)
    with opened(empty_url, pool_size=2) as database:
        yield database


async def test_datetimes_are_stored_and_returned_in_utc(diary: Library, empty_url: str) -> None:
    tokyo = datetime(2024, 3, 1, 6, 30, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
    await diary.write(lambda session: session.add(Entry(at=tokyo)))
    in_utc = datetime(2024, 2, 29, 21, 30, 0, 123456, tzinfo=UTC)
    on_sqlite = make_url(empty_url).get_backend_name() == "sqlite"
    stored = "2024-02-29 21:30:00.123456" if on_sqlite else in_utc
    assert rows(empty_url, "SELECT at, ended FROM entries") == [(stored, None)]
    entry = await diary.read(lambda session: session.scalars(select(Entry)).one())
    assert entry.at == tokyo
    assert entry.at.tzinfo is UTC
    assert entry.ended is None


async def test_datetimes_of_different_zones_are_compared_by_time(diary: Library) -> None:
    noon = datetime(2024, 3, 1, 12, tzinfo=UTC)
    await diary.write(lambda session: session.add(Entry(at=noon)))
    earlier_in_utc = datetime(2024, 3, 1, 13, 30, tzinfo=timezone(timedelta(hours=2)))
    statement = select(Entry.id).where(Entry.at > earlier_in_utc)
    assert await diary.read(lambda session: session.scalar(statement)) == 1


async def test_naive_datetimes_are_rejected(diary: Library, empty_url: str) -> None:
    naive = datetime(2024, 3, 1, 12)  # noqa: DTZ001 - it must be rejected
    with pytest.raises(StatementError, match="without a time zone"):
        await diary.write(lambda session: session.add(Entry(at=naive)))
    assert rows(empty_url, "SELECT * FROM entries") == []


def test_datetimes_use_timestamps_with_time_zone() -> None:
    impl = UtcDateTime().impl_instance
    assert isinstance(impl, DateTime)
    assert impl.timezone
