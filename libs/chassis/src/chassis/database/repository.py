"""The little that every repository does the same way."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, TextClause, delete, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session

from chassis.errors import DomainError

M = TypeVar("M", bound=DeclarativeBase)

Condition = ColumnElement[bool] | TextClause


class BaseRepository(Generic[M]):
    """Finds, adds, removes and pages the rows of one model. It flushes and never commits.

    A subclass names its `model`, and in `conflicts` the domain error for each unique constraint that a write may
    violate: `{"users.username_key": UsernameTaken}`, table and column, or several, as SQLite tells them; PostgreSQL
    tells the constraint's name, which the naming convention makes of the same.
    """

    model: type[M]
    conflicts: ClassVar[dict[str, type[DomainError]]] = {}

    def __init__(self, session: Session) -> None:
        self._session = session

    def base(self) -> Select[M]:
        """The statement that all finding starts from; a subclass narrows it."""
        return select(self.model)

    def find(self, row_id: int, *, for_update: bool = False) -> M | None:
        """The row with this id; `for_update` makes others who want to change it wait for this transaction's end."""
        statement = self.base().where(self._id == row_id)
        if for_update:
            # As the row is once it is locked, also where this transaction has read it before.
            statement = statement.with_for_update().execution_options(populate_existing=True)
        return self._one(statement)

    def page(
        self,
        limit: int,
        *conditions: Condition,
        by: InstrumentedAttribute[Any] | None = None,
        descending: bool = False,
        after: Sequence[Any] | None = None,
        skip: int = 0,
    ) -> Sequence[M]:
        """Up to `limit` of the rows that meet the conditions, in the order of a column, equal ones in that of ids.

        :param by: the column; None for the ids alone
        :param after: what the last row of the page before has in that column, if there is one, and its id. The page
            goes on behind that place, whatever was inserted or deleted since, and whether that row still exists.
        :param skip: rows to leave out at the beginning
        """
        columns = [self._id] if by is None else [by, self._id]
        statement = self.base().where(*conditions)
        if after is not None:
            # A comparison of rows, and not of one column after the other, is what both databases find in an index.
            here = tuple_(*columns)
            statement = statement.where(here < after if descending else here > after)
        order = [column.desc() if descending else column.asc() for column in columns]
        return self._session.scalars(statement.order_by(*order).offset(skip).limit(limit)).all()

    def add(self, row: M) -> M:
        """Insert the row, so that it has its id; raises the domain error of a violated constraint."""
        self.add_all([row])
        return row

    def add_all(self, rows: Sequence[M]) -> None:
        """The same for many rows at once."""
        self._session.add_all(rows)
        self.flush()

    def remove(self, row: M) -> None:
        self._session.delete(row)
        self.flush()

    def remove_up_to(self, limit: int, column: InstrumentedAttribute[datetime], moment: datetime) -> int:
        """Remove up to `limit` rows whose time in the column has come by this moment; how many there were."""
        due = select(self._id).where(column <= moment).order_by(column).limit(limit)
        # Another process that does the same takes others.
        removed = delete(self.model).where(self._id.in_(due.with_for_update(skip_locked=True))).returning(self._id)
        return len(self._session.scalars(removed).all())

    def flush(self) -> None:
        """Send the changes made so far; raises the domain error of a violated constraint."""
        try:
            self._session.flush()
        except IntegrityError as error:
            # Not PostgreSQL's message: it is in the language of the server.
            told = getattr(error.orig, "diag", None)
            violated = told.constraint_name if told else str(error.orig).removeprefix("UNIQUE constraint failed: ")
            for columns, conflict in self.conflicts.items():
                table = columns.partition(".")[0]
                if violated in (columns, f"uq_{table}_{columns.replace(f'{table}.', '').replace(', ', '_')}"):
                    raise conflict from error
            raise

    @property
    def _id(self) -> Any:
        return self.model.__table__.c.id

    def _one(self, statement: Select[M]) -> M | None:
        return self._session.scalars(statement).one_or_none()
