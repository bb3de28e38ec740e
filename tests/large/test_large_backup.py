"""Backup and restore of 100,000 products, in constant memory."""

import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import NullPool, create_engine

from testkit.databases import Databases
from testkit.many_rows import fill_products
from testkit.processes import Service
from testkit.products import migrations_of
from testkit.usage import memory

PRODUCTS = 100_000
MOST_MEMORY = 40 * 2**20  # bytes above that of the same command without rows


def run(database_url: str, folder: Path, *words: str) -> int:
    """Run a command of the product service; return its peak of memory, and print that and the time taken."""
    started, peak = time.monotonic(), 0
    service = Service("product-service", folder, DATABASE_URL=database_url).start(*words)
    while service.is_running:
        with suppress(FileNotFoundError, AssertionError):  # It has just ended.
            peak = max(peak, memory(service.pid, "VmHWM"))
        time.sleep(0.02)
    assert service.wait_ended() == 0, service.log
    print(f"{words[0]}: {peak / 2**20:.1f} MiB, {time.monotonic() - started:.1f} s; {service.log.splitlines()[-1]}")
    return peak


def test_backup_and_restore_of_100000_products_use_constant_memory(databases: Databases, tmp_path: Path) -> None:
    with databases.made() as new_database:
        empty, full = new_database(migrations_of), new_database(migrations_of)
        engine = create_engine(full, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        fill_products(engine, PRODUCTS)
        small, large = str(tmp_path / "small"), str(tmp_path / "large")
        idle = run(empty, tmp_path, "backup", small)
        assert 0 < run(full, tmp_path, "backup", large) < idle + MOST_MEMORY
        idle = run(new_database(None), tmp_path, "restore", small)
        assert 0 < run(new_database(None), tmp_path, "restore", large) < idle + MOST_MEMORY
