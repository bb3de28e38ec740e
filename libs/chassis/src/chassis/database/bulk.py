"""Statements with many values, which write rows without objects of the model.

PostgreSQL gets one statement, with an array per column: it parses lists of values much more slowly. SQLite gets one
prepared statement that is executed for each row. All rows of a call have the same columns; `common` has the values that
are the same for all of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.types import TypeEngine

Rows = Sequence[Mapping[str, Any]]


def next_ids(session: Session, table: sa.Table, count: int) -> Sequence[int]:
    """Ids for new rows of a `Numbered` table, in ascending order; no other transaction gets the same ones."""
    if _is_postgresql(session):
        sequence = sa.func.pg_get_serial_sequence(table.name, "id")
        each = sa.func.generate_series(1, count).table_valued("number")
        return session.scalars(sa.select(sa.func.nextval(sequence)).select_from(each)).all()
    # The transaction is the only one that writes.
    statement = sa.text("SELECT seq FROM sqlite_sequence WHERE name = :name").bindparams(name=table.name)
    last = session.scalars(statement).one_or_none() or 0
    return range(last + 1, last + 1 + count)


def insert(session: Session, table: sa.Table, rows: Rows, common: Mapping[str, Any]) -> None:
    if _is_postgresql(session):
        source = _as_table(session, table, rows)
        values = [sa.literal(value, table.c[name].type) for name, value in common.items()]
        session.execute(sa.insert(table).from_select([*source.c.keys(), *common], sa.select(*source.c, *values)))
    else:
        session.execute(sa.insert(table), [{**row, **common} for row in rows])


def update(session: Session, table: sa.Table, rows: Rows, keys: Sequence[str], common: Mapping[str, Any]) -> int:
    """Set the values of each row where all its keys are equal; returns the number of rows that were found."""
    names = [name for name in rows[0] if name not in keys]
    if _is_postgresql(session):
        source = _as_table(session, table, rows)
        found = [table.c[name] == source.c[name] for name in keys]
        statement = sa.update(table).values({**{name: source.c[name] for name in names}, **common}).where(*found)
        result = session.execute(statement)
    else:
        # SQLAlchemy reserves the names of the columns for the values.
        found = [table.c[name] == sa.bindparam(f"key_{name}", type_=table.c[name].type) for name in keys]
        statement = sa.update(table).values({**{name: sa.bindparam(name) for name in names}, **common}).where(*found)
        renamed = {**{name: name for name in names}, **{name: f"key_{name}" for name in keys}}
        result = session.execute(statement, [{renamed[name]: value for name, value in row.items()} for row in rows])
    return cast("sa.CursorResult[Any]", result).rowcount


def is_one_of(session: Session, column: InstrumentedAttribute[Any], values: Iterable[Any]) -> sa.ColumnElement[bool]:
    """The condition that the column has one of many values."""
    if _is_postgresql(session):
        return column == sa.any_(_array(session, column.type, values))
    return column.in_(values)


def _is_postgresql(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def _as_table(session: Session, table: sa.Table, rows: Rows) -> sa.TableValuedAlias:
    """The rows as a table in a statement for PostgreSQL."""
    types = {name: table.c[name].type for name in rows[0]}
    arrays = [_array(session, each, [row[name] for row in rows]) for name, each in types.items()]
    columns = [sa.column(name, each) for name, each in types.items()]
    return sa.func.unnest(*arrays).table_valued(*columns).render_derived(name="new")


def _array(session: Session, of_type: TypeEngine[Any], values: Iterable[Any]) -> sa.ColumnElement[Any]:
    """The values as one literal. The driver would make an expression with a constant for each of them."""
    dialect = session.get_bind().dialect
    convert = of_type.dialect_impl(dialect).bind_processor(dialect)
    literal = f"{{{','.join(map(_element, map(convert, values) if convert else values))}}}"
    # A cast to a type with a length would cut the texts.
    return sa.cast(sa.literal(literal, sa.Text()), ARRAY(sa.Text() if isinstance(of_type, sa.String) else of_type))


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
