"""The base of all repositories."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar, cast

from sqlalchemy import ColumnElement, Select, Table, TextClause, bindparam, delete, insert, select, tuple_, union_all
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session
from sqlalchemy.sql.dml import ReturningInsert

from chassis.database import bulk
from chassis.errors import DomainError

M = TypeVar("M", bound=DeclarativeBase)

Condition = ColumnElement[bool] | TextClause


class BaseRepository(Generic[M]):
    """Finds, adds, deletes and pages the rows of one model. It flushes and never commits.

    A subclass sets its `model`, and in `conflicts` the domain error for each unique constraint that a write may
    violate: `{"users.username_key": UsernameTaken}`. The key is the table and its column or columns, as SQLite reports
    them; PostgreSQL reports the constraint's name, which follows from them by the naming convention.
    """

    model: type[M]
    _by_id: Select[M]
    _locked_by_id: Select[M]
    _insert: ReturningInsert[Any]
    conflicts: ClassVar[dict[str, type[DomainError]]] = {}

    def __init_subclass__(cls) -> None:
        # Reads return rows, which are tuples: their methods would hide these columns.
        if hidden := {"count", "index", "t", "tuple"} & set(cls.model.__table__.columns.keys()):
            raise TypeError(f"rename the columns {', '.join(sorted(hidden))} of {cls.model.__name__}")
        # Most of the cost of a small query is that of building its statement.
        cls._by_id = cls.base().where(cls.model.__table__.c.id == bindparam("row_id"))
        # Reload the row after locking, even if this transaction has already read it.
        cls._locked_by_id = cls._by_id.with_for_update().execution_options(populate_existing=True)
        table = cast("Table", cls.model.__table__)
        cls._insert = insert(table).returning(*table.columns)

    def __init__(self, session: Session) -> None:
        self._session = session

    @classmethod
    def base(cls) -> Select[M]:
        """The statement behind every query; a subclass may restrict it."""
        return select(cls.model)

    def find(self, row_id: int, *, for_update: bool = False) -> M | None:
        """The row with this id; `for_update` locks it until the transaction ends."""
        return self._one(self._locked_by_id if for_update else self._by_id, {"row_id": row_id})

    def page(
        self,
        limit: int,
        *conditions: Condition,
        by: InstrumentedAttribute[Any] | None = None,
        descending: bool = False,
        after: Sequence[Any] | None = None,
        skip: int = 0,
    ) -> Sequence[M]:
        """Up to `limit` rows that match the conditions, ordered by a column and then by id.

        :param by: the column; None to order by id alone
        :param after: the position of the last row of the previous page: its value in that column, if there is one, and
            its id. The row itself may have been deleted since.
        :param skip: number of rows to skip
        """
        columns = [self._id] if by is None else [by, self._id]
        order = [column.desc() if descending else column.asc() for column in columns]
        statement = self.base().where(*conditions)
        if after is not None:
            if by is not None and not skip and self._reads_ties(conditions):
                return self._page_after_ties(statement, limit, by, order, after, descending=descending)
            # Both databases use an index for a row comparison, but not for one comparison per column.
            position = tuple_(*columns)
            statement = statement.where(position < after if descending else position > after)
        statement = statement.order_by(*order).offset(skip).limit(limit)
        if skip:
            # What is skipped is counted in the index. PostgreSQL would read each of these rows.
            ids = statement.with_only_columns(self._id).correlate(None)
            statement = self.base().where(self._id.in_(ids)).order_by(*order)
        return self._session.scalars(statement).all()

    def _reads_ties(self, conditions: Sequence[Condition]) -> bool:
        """Whether a row comparison would read all rows that have the same value as the last one.

        SQLite looks up only the first column of a row comparison. A condition as text is a search, which it runs before
        it looks at the order, and would run twice for two statements.
        """
        is_sqlite = self._session.get_bind().dialect.name == "sqlite"
        return is_sqlite and not any(isinstance(each, TextClause) for each in conditions)

    def _page_after_ties(
        self,
        statement: Select[M],
        limit: int,
        by: InstrumentedAttribute[Any],
        order: Sequence[ColumnElement[Any]],
        after: Sequence[Any],
        *,
        descending: bool,
    ) -> Sequence[M]:
        """The rows with the same value as the last one and then the others, each from their place in the index on."""
        value, row_id = after
        ties = statement.where(by == value, self._id < row_id if descending else self._id > row_id)
        others = statement.where(by < value if descending else by > value)
        both = union_all(ties, others).order_by(*order).limit(limit)
        return self._session.scalars(select(self.model).from_statement(both)).all()

    def add(self, row: M) -> M:
        """Insert the row, which gives it an id. Raises the domain error of a violated constraint."""
        self._session.add(row)
        self.flush()
        return row

    def insert(self, values: Mapping[str, Any]) -> M:
        """Insert a row and return it like a read, without an object of the model. Raises like `add`."""
        with self._translated_conflicts():
            return cast("M", self._session.connection().execute(self._insert, values).one())

    def next_ids(self, count: int) -> Sequence[int]:
        """Ids for `insert_many`, in ascending order."""
        return bulk.next_ids(self._session, self._table, count)

    def insert_many(self, rows: Sequence[Mapping[str, Any]], common: Mapping[str, Any]) -> None:
        """Insert rows without objects of the model, which takes a fraction of the time. Raises like `add`.

        :param rows: the values of each; all have the same columns
        :param common: the values that are the same in all rows
        """
        if rows:
            with self._translated_conflicts():
                bulk.insert(self._session, self._table, rows, common)

    def update_many(self, rows: Sequence[Mapping[str, Any]], keys: Sequence[str], common: Mapping[str, Any]) -> int:
        """Set the values of the rows that are found by their `keys`, like `insert_many`; returns their number."""
        with self._translated_conflicts():
            return bulk.update(self._session, self._table, rows, keys, common)

    def is_one_of(self, column: InstrumentedAttribute[Any], values: Collection[Any]) -> Condition:
        """The condition that a column has one of these values. It is made for hundreds of them."""
        return bulk.is_one_of(self._session, column, values)

    def delete(self, row: M) -> None:
        self._session.delete(row)
        self.flush()

    def delete_up_to(self, limit: int, column: InstrumentedAttribute[datetime], moment: datetime) -> int:
        """Delete up to `limit` rows whose value in the column is not after `moment`; return their number."""
        due = select(self._id).where(column <= moment).order_by(column).limit(limit)
        # Skip rows that another process is deleting.
        deleted = delete(self.model).where(self._id.in_(due.with_for_update(skip_locked=True))).returning(self._id)
        return len(self._session.scalars(deleted).all())

    def flush(self) -> None:
        """Send pending changes. Raises the domain error of a violated constraint."""
        with self._translated_conflicts():
            self._session.flush()

    @contextmanager
    def _translated_conflicts(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            # PostgreSQL's message is in the language of the server, so use the constraint's name.
            diagnostics = getattr(error.orig, "diag", None)
            violated = (
                diagnostics.constraint_name
                if diagnostics
                else str(error.orig).removeprefix("UNIQUE constraint failed: ")
            )
            for columns, conflict in self.conflicts.items():
                table = columns.partition(".")[0]
                if violated in (columns, f"uq_{table}_{columns.replace(f'{table}.', '').replace(', ', '_')}"):
                    raise conflict from error
            raise

    @property
    def _table(self) -> Table:
        return cast("Table", self.model.__table__)

    @property
    def _id(self) -> Any:
        return self._table.c.id

    def _one(self, statement: Select[M], parameters: Mapping[str, Any] | None = None) -> M | None:
        return self._session.scalars(statement, parameters).one_or_none()
