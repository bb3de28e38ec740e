"""Export of 100,000 products from one service, and import into another, in constant memory."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chassis.database.transactions import Database
from product_service.demo import large_catalogue
from testkit.databases import Databases
from testkit.processes import Account, Service, Services
from testkit.usage import memory

LINES = 100_000
MOST_MEMORY = 60 * 2**20  # bytes above idle
TIMEOUT = 600  # seconds


@pytest.fixture
def empty(services_on_both: Services, databases: Databases, tmp_path: Path) -> Iterator[Service]:
    """A second, empty product service with the same user service."""
    with databases.made() as new_database:
        service = Service(
            "product-service",
            tmp_path / "empty",
            USER_SERVICE_URL=services_on_both.users.url,
            MAX_IMPORT_REFUSED_LINES=str(LINES),
            DATABASE_URL=new_database(None),
            MAX_PRODUCTS_PER_ACCOUNT="1000000",
        )
        try:
            yield service.start().wait_ready()
        finally:
            service.close()


@contextmanager
def flat(service: Service, what: str) -> Iterator[None]:
    """Assert that the service uses little more memory than when idle; print how much, and the time taken."""
    idle, started = memory(service.pid), time.monotonic()
    yield
    taken = memory(service.pid, "VmHWM") - idle
    print(f"{what}: {taken / 2**20:.1f} MiB above idle, {time.monotonic() - started:.1f} s")
    assert taken < MOST_MEMORY, what


def export(service: Service, account: Account, name: str, folder: Path) -> Path:
    file = folder / f"{service.folder.name}.{name}"
    with (
        service.client(headers=account.bearer, timeout=TIMEOUT) as client,
        flat(service, f"export of {name}"),
        client.stream("GET", f"/products/export?format={name}") as answer,
        file.open("wb") as content,
    ):
        content.writelines(answer.iter_raw())
    return file


def test_export_and_import_of_100000_products_use_constant_memory(
    services_on_both: Services, empty: Service, tmp_path: Path
) -> None:
    full, account = services_on_both.products, services_on_both.sign_up()

    async def fill() -> int:
        database = Database(full.database_url, lambda session: session, pool_size=2, pool_timeout=60)
        try:
            return await large_catalogue.fill(database, [account.id], LINES, lambda _: None)
        finally:
            database.close()

    assert asyncio.run(fill()) == LINES
    files = {name: export(full, account, name, tmp_path) for name in ("csv", "ndjson")}
    with empty.client(headers={**account.bearer, "Content-Type": "text/csv"}, timeout=TIMEOUT) as client:
        # The memory for the first write does not depend on the size of the file.
        assert client.post("/products/import", content="sku\n").status_code == 200
        with flat(empty, "import of csv"), files["csv"].open("rb") as content:
            answer = client.post("/products/import", content=content)
    assert (answer.json()["created"], answer.json()["refused"]) == (LINES, 0)
    for name, file in files.items():
        assert export(empty, account, name, tmp_path).read_bytes() == file.read_bytes()


def test_a_file_of_very_short_lines_uses_constant_memory(services_on_both: Services, empty: Service) -> None:
    """Each line is rejected, with a report that is much larger than the line."""
    account = services_on_both.sign_up()
    headers = {**account.bearer, "Content-Type": "application/x-ndjson"}
    with empty.client(headers=headers, timeout=TIMEOUT) as client:
        assert client.post("/products/import", content="1\n").json()["refused"] == 1
        with flat(empty, "import of short lines"):
            answer = client.post("/products/import", content=b"1\n" * LINES)
    report = answer.json()
    assert (report["created"], report["refused"], len(report["errors"])) == (0, LINES, 1_000)
