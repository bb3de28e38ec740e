"""Finds what a migration does that the version before it may not survive: drops, renames, new constraints, other types.

Such a migration is a contracting one, and names its floor: the oldest revision whose code does without
(docs/decisions/0040). The others are expanding ones. The source is parsed: running it on one database would skip the
branches for the other.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_WIDER = {("SmallInteger", "Integer"), ("SmallInteger", "BigInteger"), ("Integer", "BigInteger"), ("String", "Text")}
"""Types, each with one that holds all of its values."""

_CONSTRAINT = re.compile(r"create_(unique|check|exclude)_constraint|create_(foreign|primary)_key")
_SQL = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|INDEX|CONSTRAINT|DEFAULT|VIEW|TRIGGER|TYPE|FUNCTION|SEQUENCE|SCHEMA)\b|\bRENAME\b"
    r"|\bSET\s+NOT\s+NULL\b|\bALTER\s+COLUMN\s+\S+\s+(SET\s+DATA\s+)?TYPE\b"
    r"|\bADD\s+(CONSTRAINT|CHECK|UNIQUE|FOREIGN|PRIMARY)\b|\bADD\s+(COLUMN\s+)?(?!.*\bDEFAULT\b).*\bNOT\s+NULL\b",
    re.IGNORECASE | re.DOTALL,
)


def problems(root: Path) -> list[str]:
    """A sentence for each contracting operation in an expanding migration of the services."""
    return [
        f"{path.relative_to(root).as_posix()}:{line}: {problem}. The version before still needs it as it was: do this "
        'in a later release, and name the oldest revision whose code does without it, as floor = "REVISION".'
        for path in sorted(root.glob("*-service/src/*/migrations/*.py"))
        for line, problem in contracting_operations(path.read_text(encoding="utf-8"))
    ]


def contracting_operations(source: str) -> list[tuple[int, str]]:
    """The lines of such operations, and what they do; nothing if the migration names its floor."""
    body = ast.parse(source).body
    if any("floor" in _assigned(part) for part in body):
        return []
    upgrades = [part for part in body if not (isinstance(part, ast.FunctionDef) and part.name == "downgrade")]
    nodes = [node for part in upgrades for node in ast.walk(part)]
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    # No version before the migration knows the tables that it creates.
    new = {_constant(call.args, 0) for call in calls if _name(call) == "create_table"} - {None}
    found = {(call.lineno, problem) for call in calls for problem in _problems_of(call, new)}
    docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
    found |= {
        (node.lineno, f"SQL with {' '.join(sql[0].upper().split()[:2])}")
        for node in nodes
        if isinstance(node, ast.Constant | ast.JoinedStr)
        and node not in docstrings
        and (sql := _SQL.search(_text(node)))
    }
    return sorted(found)


def _assigned(statement: ast.stmt) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    """The text of a string, with a letter in place of each value that an f-string inserts."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "x" for part in node.values)
    return str(node.value)


def _problems_of(call: ast.Call, new_tables: set[object]) -> Iterator[str]:
    name = _name(call)
    options = {option.arg: option.value for option in call.keywords if option.arg}
    if name == "drop" or name.startswith("drop_"):
        yield f"{name} drops something"
    elif name == "rename_table" or "new_column_name" in options:
        yield f"{name} renames something"
    elif _CONSTRAINT.fullmatch(name) or (name == "create_index" and _is_unique(options)):
        if _constant(call.args, 1) not in new_tables:
            yield f"{name} adds a constraint"
    elif name == "add_column":
        yield from ("add_column adds NOT NULL without a server default" for each in call.args if _is_required(each))
    if name == "alter_column":
        if "nullable" in options and not _is(options["nullable"], value=True):
            yield "alter_column adds NOT NULL"
        if "server_default" in options and _is(options["server_default"], value=None):
            yield "alter_column drops a server default"
        if "type_" in options and not _is_wider(options.get("existing_type"), options["type_"]):
            yield "alter_column changes a type, and its existing_type is not known to be narrower"


def _name(node: ast.expr | None) -> str:
    """The last part of the name that is called, without its module."""
    function = node.func if isinstance(node, ast.Call) else node
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _constant(arguments: list[ast.expr], position: int) -> object:
    argument = arguments[position] if len(arguments) > position else None
    return argument.value if isinstance(argument, ast.Constant) else None


def _is(node: ast.expr, *, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_unique(options: dict[str, ast.expr]) -> bool:
    return "unique" in options and not _is(options["unique"], value=False)


def _is_required(column: ast.expr) -> bool:
    """Whether it is a column that every insert has to name."""
    if not isinstance(column, ast.Call) or _name(column) != "Column":
        return False
    options = {option.arg: option.value for option in column.keywords}
    generated = any(_name(each) in ("Computed", "Identity") for each in column.args)
    return (
        "nullable" in options
        and not _is(options["nullable"], value=True)
        and not (generated or "server_default" in options)
    )


def _is_wider(old: ast.expr | None, new: ast.expr) -> bool:
    before, after = _name(old), _name(new)
    if before == after == "String":
        return _length(new) >= _length(old)
    return (before, after) in _WIDER


def _length(string: ast.expr | None) -> float:
    """The length of a `String`; infinite without one."""
    if not isinstance(string, ast.Call):
        return float("inf")
    lengths = [*string.args[:1], *(option.value for option in string.keywords if option.arg == "length")]
    value = _constant(lengths, 0)
    return value if isinstance(value, int) else float("inf")
