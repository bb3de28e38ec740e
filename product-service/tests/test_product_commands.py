"""The command line of the product service."""

import argparse
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from chassis.errors import DatabaseUnavailable, Invalid
from product_service.commands import COMMANDS
from product_service.errors import ImportInterrupted
from product_service.schemas import ProductLine
from product_service.services.import_export import CHUNK_SIZE
from product_service.services.upserts import Upserts
from product_service.settings import Settings
from testkit import preloaded
from testkit.processes import free_port
from testkit.products import MakeSettings

FILE = "sku,name,price,quantity\nA,Lamp,1,1\nB,Cup,x,1\n"


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    return {**kept, "DATABASE_URL": database_url}


def command(
    folder: Path, environment: dict[str, str], *words: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return preloaded.run("product_service", ["import", *words], folder, environment, stdin)


@pytest.mark.sqlite
def test_import_creates_no_database(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "products.csv").write_text(FILE)
    missing = tmp_path / "another folder" / "product-service.db"
    del environment["DATABASE_URL"]
    done = command(tmp_path, {**environment, "DATA_DIR": "another folder"}, "products.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"import: there is no database at {missing}. Use the settings of the service, ")
    assert not missing.parent.exists()


@pytest.mark.sqlite
def test_import_says_only_that_the_database_is_unavailable(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "products.csv").write_text(FILE)
    away = f"postgresql://ada@127.0.0.1:{free_port()}/products"
    done = command(tmp_path, {**environment, "DATABASE_URL": away}, "products.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("import: the database is unavailable or locked: ")
    assert "Use the settings" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.sqlite
def test_import_reports_changes_and_refused_lines(
    tmp_path: Path, environment: dict[str, str], database: Engine
) -> None:
    (tmp_path / "products.csv").write_text(FILE)
    dry_run = command(tmp_path, environment, "products.csv", "--dry-run")
    reason = (
        "price: In this file, a price looks like 19.99 or 19,99: up to 10 digits, then up to 4 decimals; no spaces, "
        "no sign for thousands, no currency"
    )
    report = f"line 3: {reason}\n1 created, 0 updated, 0 unchanged, 1 refused"
    assert (dry_run.returncode, dry_run.stdout) == (1, f"{report}; nothing was changed.\n")

    done = command(tmp_path, environment, "products.csv")
    assert (done.returncode, done.stdout) == (1, f"{report}.\n")
    # The progress bar is only for terminals.
    assert "%" not in done.stderr

    (tmp_path / "more").write_text(
        '{"sku": "C", "name": "Cup", "price": 1, "quantity": 1}\n{"sku": "A", "quantity": 2}\n'
    )
    more = command(tmp_path, environment, "more", "--format", "ndjson", "--owner", "7")
    assert more.stdout.splitlines() == [
        "line 2: Only the product's owner or an admin can do this.",
        "1 created, 0 updated, 0 unchanged, 1 refused.",
    ]
    with database.connect() as connection:
        stored = connection.execute(text("SELECT sku, owner_id, quantity FROM products ORDER BY id")).all()
    assert [tuple(row) for row in stored] == [("A", 1, 1), ("C", 7, 1)]

    (tmp_path / "more").write_text('{"\\u001b[31m": 1, "name": "Cup", "price": 1, "quantity": 1}\n')
    assert "\\x1b[31m" in command(tmp_path, environment, "more", "--format", "ndjson").stdout

    (tmp_path / "products.csv").write_text(FILE.replace("x", "1"))
    again = command(tmp_path, environment, "products.csv")
    assert (again.returncode, again.stdout) == (0, "1 created, 0 updated, 1 unchanged, 0 refused.\n")


@pytest.mark.sqlite
def test_import_reads_standard_input(tmp_path: Path, environment: dict[str, str], database: Engine) -> None:
    done = command(tmp_path, environment, "-", "--format", "csv", stdin=FILE.replace("x", "1"))
    assert (done.returncode, done.stdout) == (0, "2 created, 0 updated, 0 unchanged, 0 refused.\n")
    with database.connect() as connection:
        assert connection.execute(text("SELECT sku FROM products ORDER BY id")).scalars().all() == ["A", "B"]


@pytest.mark.sqlite
def test_options_are_those_of_the_api(
    tmp_path: Path, make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shop.csv"
    file.write_text("Variant SKU;Title;Price;Quantity;Note\nA;Lamp;1,501;1;x\n")
    parser = argparse.ArgumentParser()
    chosen = COMMANDS[0]
    chosen.arguments(parser)
    words = ["--columns", "Variant SKU:sku,Title:name", "--unknown-columns", "ignore", "--delimiter", ";"]
    with pytest.raises(SystemExit):  # A line is refused.
        chosen.run(make_settings(), parser.parse_args([str(file), "--dry-run", *words, "--decimal", ","]))
    assert capsys.readouterr().out.splitlines() == [
        "line 2: price: USD has 2 decimals",
        "cells are separated by ;; the decimal sign is ,",
        "ignored columns: 'Note'",
        "0 created, 0 updated, 0 unchanged, 1 refused; nothing was changed.",
    ]
    with pytest.raises(Invalid) as caught:
        chosen.run(make_settings(), parser.parse_args([str(file), "--unknown-columns", "skip"]))
    assert caught.value.errors[0].detail == "--unknown-columns: Must be one of these: reject or ignore"


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (["-"], 1, "import: standard input has no file extension; set the format with --format."),
        (["missing.csv"], 1, "import: missing.csv: No such file or directory"),
        (["products.csv", "--owner", "0"], 2, "argument --owner: an account id is a positive whole number"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(
    tmp_path: Path, environment: dict[str, str], words: list[str], status: int, line: str
) -> None:
    ended = command(tmp_path, environment, *words)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.splitlines()[-1].endswith(line)
    assert "Traceback" not in ended.stderr


def run(settings: Settings, file: Path) -> None:
    """Run the import command in this process."""
    chosen = COMMANDS[0]
    chosen.run(settings, argparse.Namespace(file=file, format=None, owner=1, dry_run=False))


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("products.txt", "products.txt: unknown file extension; set the format with --format."),
        ("empty.csv", "The header line is missing"),
    ],
)
def test_unreadable_file_is_reported(make_settings: MakeSettings, tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(Invalid) as caught:
        run(make_settings(), tmp_path / name)
    assert caught.value.errors[0].detail.endswith(reason)


@pytest.mark.sqlite
def test_operators_import_without_limits(
    make_settings: MakeSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = {f"max_import_{what}": 1 for what in ("lines", "blank_lines", "refused_lines")}
    (tmp_path / "products.csv").write_text(f"{FILE}\n\nC,Cup,x,1\n")
    with pytest.raises(SystemExit):
        run(make_settings(max_import_bytes=1024, **limits), tmp_path / "products.csv")
    assert capsys.readouterr().out.splitlines()[-1] == "1 created, 0 updated, 0 unchanged, 2 refused."


def test_interrupted_import_reports_what_it_saved(
    make_settings: MakeSettings,
    tmp_path: Path,
    database: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = "".join(f"S{number},Cup,1,{'x' if number == 7 else 1}\n" for number in range(900))
    (tmp_path / "products.csv").write_text(f"sku,name,price,quantity\n{lines}")
    upsert_many = Upserts.upsert_many

    async def upsert_some(upserts: Upserts, patches: Sequence[ProductLine], *arguments: Any, **options: Any) -> Any:
        if patches[-1].sku == "S899":
            raise DatabaseUnavailable
        return await upsert_many(upserts, patches, *arguments, **options)

    monkeypatch.setattr(Upserts, "upsert_many", upsert_some)
    with pytest.raises(ImportInterrupted):
        run(make_settings(), tmp_path / "products.csv")
    output = capsys.readouterr().out.splitlines()
    assert output == [
        "line 9: quantity: Must be a whole number",
        "499 created, 0 updated, 0 unchanged, 1 refused.",
    ]
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM products")).scalar_one() == 499


@pytest.mark.sqlite
def test_progress_is_shown_in_a_terminal(tmp_path: Path, environment: dict[str, str]) -> None:
    lines = "".join(f"S{number},Cup,1,1,{'-' * 40}\n" for number in range(2_000))
    content = f"sku,name,price,quantity,description\n{lines}".encode()
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))  # A terminal without lines would show nothing.
    shown = b""

    def wait_until_shown(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            assert select.select([terminal], [], [], 60)[0], shown
            shown += os.read(terminal, 100_000)

    command = [sys.executable, "-m", "product_service", "import", "-", "--format", "csv", "--dry-run"]
    settings = {**environment, "LOG_LEVEL": "ERROR"}
    try:
        with subprocess.Popen(
            command, cwd=tmp_path, env=settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=end
        ) as importing:
            assert importing.stdin is not None
            assert importing.stdout is not None
            wait_until_shown(b"0.00B ")
            time.sleep(0.2)  # What is shown changes at most once in 0.1 s.
            importing.stdin.write(content[:CHUNK_SIZE])
            importing.stdin.flush()
            wait_until_shown(b"65.5kB ")
            importing.stdin.write(content[CHUNK_SIZE:])
            importing.stdin.close()
            assert importing.stdout.read() == b"2000 created, 0 updated, 0 unchanged, 0 refused; nothing was changed.\n"
    finally:
        os.close(terminal)
        os.close(end)
