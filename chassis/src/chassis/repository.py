"""The little that every repository does the same way."""

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session

from chassis.errors import DomainError

M = TypeVar("M", bound=DeclarativeBase)


class BaseRepository(Generic[M]):
    """Finds, adds, removes and pages the rows of one model. It flushes and never commits.

    A subclass names its `model`, and in `conflicts` the domain error for each unique constraint that a write may
    violate: `{"users.username_key": UsernameTaken}`, table and column, as SQLite tells it; PostgreSQL tells the
    constraint's name, which the naming convention makes of the same two.
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

    def page(self, skip: int, limit: int) -> Sequence[M]:
        """Up to `limit` rows after the first `skip`, by id."""
        return self._session.scalars(self.base().order_by(self._id).offset(skip).limit(limit)).all()

    def add(self, row: M) -> M:
        """Insert the row, so that it has its id; raises the domain error of a violated constraint."""
        self._session.add(row)
        self.flush()
        return row

    def remove(self, row: M) -> None:
        self._session.delete(row)
        self.flush()

    def flush(self) -> None:
        """Send the changes made so far; raises the domain error of a violated constraint."""
        try:
            self._session.flush()
        except IntegrityError as error:
            # Not PostgreSQL's message: it is in the language of the server.
            told = getattr(error.orig, "diag", None)
            violated = told.constraint_name if told else str(error.orig).removeprefix("UNIQUE constraint failed: ")
            for column, conflict in self.conflicts.items():
                if violated in (column, f"uq_{column.replace('.', '_')}"):
                    raise conflict from error
            raise

    @property
    def _id(self) -> Any:
        return self.model.__table__.c.id

    def _one(self, statement: Select[M]) -> M | None:
        return self._session.scalars(statement).one_or_none()
