"""Statements with many values, which write rows without objects of the model.

Each is one statement with few parameters: PostgreSQL gets an array per column, SQLite one JSON document. Both are much
slower with a parameter per value. PostgreSQL would have to parse all of them; SQLite would run a statement per row, and
a full-text index does some of its work per statement. All rows of a call have the same columns; `common` has the values
that are the same for all of them.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    new = _as_table(session, table, rows)
    values = [sa.literal(value, table.c[name].type) for name, value in common.items()]
    session.execute(sa.insert(table).from_select([*new.c.keys(), *common], sa.select(*new.c, *values)))


def update(session: Session, table: sa.Table, rows: Rows, keys: Sequence[str], common: Mapping[str, Any]) -> int:
    """Set the values of each row where all its keys are equal; returns the number of rows that were found."""
    new = _as_table(session, table, rows)
    values = {name: column for name, column in new.c.items() if name not in keys}
    found = [table.c[name] == new.c[name] for name in keys]
    result = session.execute(sa.update(table).values({**values, **common}).where(*found))
    return cast("sa.CursorResult[Any]", result).rowcount


def is_one_of(session: Session, column: InstrumentedAttribute[Any], values: Iterable[Any]) -> sa.ColumnElement[bool]:
    """The condition that the column has one of many values."""
    converted = _converted(session, column.type, values)
    if _is_postgresql(session):
        return column == sa.any_(_array(column.type, converted))
    return column.in_(sa.select(_each_of(list(converted)).c.value))


def _is_postgresql(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def _as_table(session: Session, table: sa.Table, rows: Rows) -> sa.FromClause:
    """The rows as a table in a statement, named `new`."""
    types = {name: table.c[name].type for name in rows[0]}
    columns = [_converted(session, each, [row[name] for row in rows]) for name, each in types.items()]
    if _is_postgresql(session):
        arrays = map(_array, types.values(), columns)
        names = (sa.column(name, each) for name, each in types.items())
        return sa.func.unnest(*arrays).table_valued(*names).render_derived(name="new")
    new = _each_of(list(zip(*columns, strict=True)))
    cells = (
        sa.type_coerce(sa.func.json_extract(new.c.value, f"$[{position}]"), each).label(name)
        for position, (name, each) in enumerate(types.items())
    )
    return sa.select(*cells).subquery("new")


def _converted(session: Session, of_type: TypeEngine[Any], values: Iterable[Any]) -> Iterable[Any]:
    """The values as the driver gets them."""
    dialect = session.get_bind().dialect
    convert = of_type.dialect_impl(dialect).bind_processor(dialect)
    return map(convert, values) if convert else values


def _array(of_type: TypeEngine[Any], values: Iterable[Any]) -> sa.ColumnElement[Any]:
    """The values as one literal. The driver would make an expression with a constant for each of them."""
    literal = sa.literal(f"{{{','.join(map(_element, values))}}}", sa.Text())
    # A cast to a type with a length would cut the texts.
    return sa.cast(literal, ARRAY(sa.Text() if isinstance(of_type, sa.String) else of_type))


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _each_of(values: Collection[Any]) -> sa.TableValuedAlias:
    """A table of SQLite with the items of a list in the column `value`."""
    return sa.func.json_each(sa.literal(json.dumps(values, ensure_ascii=False), sa.Text())).table_valued("value")
