"""Measures the import and the export of files, with both services as real processes, on Linux.

    python3 dev.py bench files                      100,000 products on both databases: some minutes
    python3 dev.py bench files --rows 1000000 --step new --step export --database sqlite

For each format, an empty database gets new products, the same file again, in which nothing has changed, and the file
with other prices. Then all products are exported. The products are those of the large demo catalogue. CPU is the time
per row of the product service, and of all processes of a PostgreSQL server on this machine. Memory is the peak of the
product service in a step, above that of the idle service.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from bench import report
from bench.usage import cpu_of_tree, pid_of_server
from product_service.demo import large_catalogue
from product_service.domain.fields import EDITABLE_FIELDS
from product_service.files.formats import FORMATS
from product_service.files.options import WriteOptions
from product_service.models import Product
from testkit.databases import POSTGRESQL
from testkit.processes import Account, Service, running_services
from testkit.usage import cpu_seconds, memory
from tests.proof.prove import databases

IMPORTS = {"new": "created", "same": "unchanged", "prices": "updated"}
"""The steps that import, and the outcome of all their rows."""
STEPS = (*IMPORTS, "export")
TIMEOUT = 3600  # seconds
PAGE = 1_000
"""Products of a file to make at a time."""


@dataclass(frozen=True)
class Cost:
    seconds: float
    service: float
    """CPU seconds."""
    database: float
    """CPU seconds of the server's processes; 0 if the database has none."""
    memory: int

    def row(self, file_format: str, step: str, rows: int) -> str:
        cpu = " | ".join(f"{1e6 * seconds / rows:,.0f}" for seconds in (self.service, self.database))
        return f"| {file_format} | {step} | {rows / self.seconds:,.0f} | {cpu} | {self.memory / 2**20:,.0f} |"


def write_file(path: Path, rows: int, added: int) -> Path:
    """Write a file with the first products of the catalogue, whose prices are higher by `added`."""
    file_format, options = FORMATS[path.suffix[1:]], WriteOptions()
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(file_format.header(options))
        for first in range(0, rows, PAGE):
            numbers = range(first, min(first + PAGE, rows))
            drawn = [large_catalogue.row(number, owner_id=1) for number in numbers]
            products = [Product(**{name: each[name] for name in EDITABLE_FIELDS}) for each in drawn]
            for product in products:
                product.price += added
            file.write(file_format.serialize(products, options))
    return path


def measured(service: Service, server: int | None, idle: int, step: Callable[[], object]) -> Cost:
    """:param server: the first process of the PostgreSQL server"""

    def database_cpu() -> float:
        return 0.0 if server is None else cpu_of_tree(server)

    Path(f"/proc/{service.pid}/clear_refs").write_text("5", encoding="ascii")  # Sets the peak to the present memory.
    cpu, of_database, started = cpu_seconds(service.pid), database_cpu(), perf_counter()
    step()
    seconds = perf_counter() - started
    return Cost(
        seconds, cpu_seconds(service.pid) - cpu, database_cpu() - of_database, memory(service.pid, "VmHWM") - idle
    )


def upload(service: Service, account: Account, path: Path, outcome: str, rows: int) -> None:
    headers = {**account.bearer, "Content-Type": FORMATS[path.suffix[1:]].media_type}
    with service.client(headers=headers, timeout=TIMEOUT) as client, path.open("rb") as content:
        report = client.post("/products/import", content=content).raise_for_status().json()
    assert report[outcome] == rows, report


def download(service: Service, account: Account, file_format: str) -> None:
    with (
        service.client(headers=account.bearer, timeout=TIMEOUT) as client,
        client.stream("GET", f"/products/export?format={file_format}") as answer,
    ):
        for _ in answer.raise_for_status().iter_raw():
            pass


def results_on(backend: str, rows: int, steps: Sequence[str], formats: Iterable[str]) -> Iterator[str]:
    yield "| format | step | rows/s | CPU µs/row | of the database | MiB |"
    yield "|---|---|---:|---:|---:|---:|"
    limits = {"MAX_IMPORT_BYTES": str(2**34), "LOG_LEVEL": "WARNING"}
    for name in formats:
        with (
            tempfile.TemporaryDirectory() as temporary,
            databases(backend, Path(temporary)) as new_database,
            running_services(Path(temporary), partial(new_database, None), **limits) as services,
        ):
            service, account = services.products, services.sign_up()
            services.users.sql(
                "UPDATE users SET is_admin = true WHERE id = :id", id=account.id
            )  # Admins have no quota.
            files = {0: write_file(Path(temporary, f"0.{name}"), rows, 0)}
            if "prices" in steps:
                files[1] = write_file(Path(temporary, f"1.{name}"), rows, 1)
            with service.client(headers={**account.bearer, "Content-Type": FORMATS["csv"].media_type}) as client:
                client.post("/products/import", content="sku\n").raise_for_status()  # The first one takes more memory.
            idle = memory(service.pid)
            server = pid_of_server(service) if backend == POSTGRESQL else None
            for step in steps:
                work: Callable[[], object] = partial(download, service, account, name)
                if step in IMPORTS:
                    work = partial(upload, service, account, files[step == "prices"], IMPORTS[step], rows)
                yield measured(service, server, idle, work).row(name, step, rows)


def main() -> None:
    parser = report.parser("files", __doc__)
    parser.add_argument("--format", choices=list(FORMATS), action="append", help="the default is both")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--step", choices=STEPS, action="append", help="the default is all; the first must be new")
    args = parser.parse_args()
    rows = 100 if args.short else args.rows

    def lines() -> Iterator[str]:
        yield f"{rows:,} rows; {report.machine()}."
        yield from report.by_database(
            args.database, lambda backend: results_on(backend, rows, args.step or STEPS, args.format or FORMATS)
        )

    report.report("files", lines(), write=args.write)


if __name__ == "__main__":
    main()
