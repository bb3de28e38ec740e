"""Importing and exporting files of products in batches, with at most one batch in memory.

Each batch of an import is a separate transaction. If an import stops early, the completed batches remain; since
products are matched by SKU, importing the same file again is safe.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from chassis import logs
from chassis.errors import DatabaseBusy, DomainError, FieldError, Invalid, Unavailable
from product_service.errors import ImportInProgress, ImportInterrupted, ImportLimitExceeded, SkuTaken
from product_service.files.formats import Format
from product_service.files.options import Layout, ReadOptions, WriteOptions
from product_service.files.reader import Reader, Record
from product_service.schemas import ProductLine
from product_service.services.upserts import DryRun, Outcome, Upserted, Upserts

if TYPE_CHECKING:
    from auth_client.caller import Caller
    from product_service.domain.criteria import Criteria
    from product_service.services.products import Products

CHUNK_SIZE = 65_536
"""Bytes of a file to parse at a time."""
BATCH_SIZE = 500
"""Products to store in one transaction, or to read at a time."""
MAX_ERRORS = 1_000
"""Refused lines to report individually."""
MAX_ERRORS_AT_LIMIT = 100
"""The same, for an import that stops because it has too many."""
MAX_WITHOUT_SKU = 100_000
"""Lines without an id and a SKU in one import. The import keeps a count per distinct line in memory."""
MAX_KEYS = 1_000_000
"""Ids and SKUs to remember, to find those that a file contains twice. Each takes about 80 bytes."""
REPEATED = "An earlier line is about the same product; to import both, set allow_repeated_sku"

_MAX_DETAIL_LENGTH = 500  # characters; field names in the file can be longer
_MAX_ATTEMPTS = 3

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class RefusedLine:
    line: int
    detail: str


@dataclass(frozen=True)
class ImportOptions:
    read: ReadOptions = ReadOptions()  # noqa: RUF009 - it is immutable
    dry_run: bool = False
    """Only report what would happen."""
    update_only: bool = False
    """Refuse lines that would create a product."""
    allow_repeated_sku: bool = False
    """Whether several lines may have the same SKU, or the same id."""
    max_refused_lines: float = math.inf


OUTCOMES = ("created", "updated", "unchanged", "refused")


@dataclass
class ImportReport:
    """The result of an import."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    errors: list[RefusedLine] = field(default_factory=list)
    """The first MAX_ERRORS refused lines."""
    file: Layout = field(default_factory=Layout)
    last_line: int = 0
    """The number of the last line that was processed."""

    @property
    def counts(self) -> dict[str, int]:
        return {outcome: getattr(self, outcome) for outcome in OUTCOMES}

    @property
    def lines(self) -> int:
        return sum(self.counts.values())

    @property
    def progress(self) -> str:
        """What is stored after an import that stopped early, as a sentence."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        return f"Stored so far, up to line {self.last_line}: {counts}."

    def add(self, line: int, outcome: Outcome) -> None:
        self.last_line = line
        if isinstance(outcome, str):
            setattr(self, outcome, getattr(self, outcome) + 1)
            return
        self.refused += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(RefusedLine(line, _detail(outcome)))


@dataclass
class ExportReport:
    """How far an export has come."""

    products: int = 0

    @property
    def counts(self) -> dict[str, int]:
        return {"products": self.products}


class Imports:
    """The imports of a process.

    Their batches run one at a time, so that other writers wait for one batch at most. One thread parses all their
    files: each further one would take processor time from the event loop.
    """

    def __init__(self, upserts: Upserts) -> None:
        self._upserts = upserts
        self._batch_lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "import")
        self._accounts: set[int] = set()

    @contextmanager
    def one_at_a_time(self, caller: Caller) -> Iterator[None]:
        """Raises ImportInProgress if an import of the same account is running in this process."""
        if caller.user_id in self._accounts:
            raise ImportInProgress
        self._accounts.add(caller.user_id)
        try:
            yield
        finally:
            self._accounts.remove(caller.user_id)

    async def run(
        self,
        chunks: AsyncIterable[bytes],
        file_format: Format,
        caller: Caller,
        report: ImportReport,
        options: ImportOptions,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """Create and change products from a file.

        Raises Invalid if the file cannot be read at all, ImportLimitExceeded, ImportInterrupted, or the error that
        stopped the first batch.

        :param chunks: the content of the file, split anywhere
        :param caller: the owner of new products
        :param report: updated after each batch
        :param check: called before each batch; stops the import by raising an exception
        """
        with _audited("products imported", caller, report, dry_run=options.dry_run):
            reader = file_format.reader(options.read)
            report.file = reader.layout
            run = _Import(self._upserts, caller, report, options)
            async with aclosing(_one_ahead(self._batches(chunks, reader))) as batches:
                async for batch in batches:
                    async with self._batch_lock:
                        check()
                        contents = await self._in_thread(run.check, batch)
                        outcomes = await run.store(contents)
                        await self._in_thread(run.report, batch, contents, outcomes)

    def close(self) -> None:
        self._thread.shutdown()

    async def _batches(self, chunks: AsyncIterable[bytes], reader: Reader) -> AsyncIterator[list[Record]]:
        """Read up to BATCH_SIZE records at a time. One chunk may contain thousands."""
        batch: list[Record] = []
        async for records in _read(chunks, reader):
            while parsed := await self._in_thread(_take, records, BATCH_SIZE - len(batch)):
                batch += parsed
                if len(batch) == BATCH_SIZE:
                    yield batch
                    batch = []
        yield batch

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work that takes milliseconds, which would block the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))


@contextmanager
def _audited(event: str, caller: Caller, report: ImportReport | ExportReport, **fields: Any) -> Iterator[None]:
    """Write a line to the audit log at the end, however it ends."""
    outcome = "interrupted"
    try:
        yield
        outcome = "completed"
    except DomainError as error:
        outcome = error.code
        raise
    finally:
        logs.audit("product_service", event, account_id=caller.user_id, outcome=outcome, **fields, **report.counts)


async def _read(chunks: AsyncIterable[bytes], reader: Reader) -> AsyncIterator[Iterator[Record]]:
    """Feed the reader with at least CHUNK_SIZE bytes at a time. Nothing is parsed until the records are consumed."""
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        if len(buffer) >= CHUNK_SIZE:
            yield reader.feed(bytes(buffer))
            buffer.clear()
    yield reader.feed(bytes(buffer))
    yield reader.end()


async def _one_ahead(items: AsyncIterator[T]) -> AsyncGenerator[T]:
    """The same items: each is made while the caller works on the one before it."""
    coming = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await coming) is not None:
            coming = asyncio.ensure_future(anext(items, None))
            yield item
    finally:
        coming.cancel()
        await asyncio.wait([coming])


def _take(records: Iterator[Record], count: int) -> list[Record]:
    return list(islice(records, count))


class _Import:
    def __init__(self, upserts: Upserts, caller: Caller, report: ImportReport, options: ImportOptions) -> None:
        self._report = report
        self._upserts = upserts
        self._caller = caller
        self._options = options
        self._keys: set[int] = set()
        """Hashes of the ids and SKUs of the lines so far; see `_predicts_repetitions` for the exception."""
        self._seen: Counter[int] = Counter()
        """The number of lines so far per product without an id and a SKU, by a hash of its fields."""
        self._without_key = 0

    def check(self, records: Sequence[Record]) -> list[ProductLine | Outcome]:
        """The contents of a batch, or the outcomes that are known without the database."""
        return [self._check(record.content) for record in records]

    async def store(self, contents: Sequence[ProductLine | Outcome]) -> list[Outcome]:
        """Store the lines of a batch. Returns all outcomes."""
        try:
            screened = iter(await self._screen(_lines(contents)))
            outcomes: list[ProductLine | Outcome] = []
            for content in contents:
                known = next(screened) if isinstance(content, ProductLine) else None
                outcomes.append(known or content)
            upserted = iter(await self._upsert(_lines(outcomes)))
            return [next(upserted) if isinstance(each, ProductLine) else each for each in outcomes]
        except Unavailable as error:
            if self._report.lines and not self._options.dry_run:
                raise ImportInterrupted from error
            raise

    def report(
        self,
        records: Sequence[Record],
        contents: Sequence[ProductLine | Outcome],
        outcomes: Sequence[Outcome],
    ) -> None:
        """Add the outcomes of a batch to the report. Raises ImportLimitExceeded."""
        for record, content, outcome in zip(records, contents, outcomes, strict=True):
            self._report.add(record.line, outcome)
            if outcome == "created" and self._predicts_repetitions and isinstance(content, ProductLine):
                self._remember(content)
        if self._report.refused > self._options.max_refused_lines:
            problem = f"More than {self._options.max_refused_lines} lines were refused; correct the file"
            refused = (f"line {each.line}: {each.detail}" for each in self._report.errors[:MAX_ERRORS_AT_LIMIT])
            raise ImportLimitExceeded(problem, refused)

    @property
    def _predicts_repetitions(self) -> bool:
        """Whether lines can be about products that a real import would have created: then `_keys` has only these."""
        return self._options.dry_run and self._options.allow_repeated_sku

    def _check(self, content: ProductLine | Invalid) -> ProductLine | Outcome:
        """The content, or the outcome if that is known without the database."""
        if not isinstance(content, ProductLine):
            return content
        if not content.id and not content.sku:
            self._without_key += 1
            if self._without_key > MAX_WITHOUT_SKU:
                detail = f"More than {MAX_WITHOUT_SKU} lines have no SKU; import the rest from another file"
                return Invalid([FieldError("/sku", detail)])
        elif self._predicts_repetitions:
            if not content.id and hash(content.sku) in self._keys:
                return "updated"
        elif not self._options.allow_repeated_sku:
            if not self._keys.isdisjoint(_keys(content)):
                return Invalid([FieldError("/id" if content.id else "/sku", REPEATED)])
            if len(self._keys) >= MAX_KEYS:
                detail = f"More than {MAX_KEYS} products; import the rest from another file, or set allow_repeated_sku"
                return Invalid([FieldError(None, detail)])
            self._remember(content)
        return content

    def _remember(self, line: ProductLine) -> None:
        if len(self._keys) < MAX_KEYS:
            self._keys.update(_keys(line))

    async def _screen(self, patches: Sequence[ProductLine]) -> Sequence[Outcome | None]:
        """The outcomes that are known before a transaction."""
        try:
            return await self._upserts.screen(patches, self._caller, update_only=self._options.update_only)
        except DatabaseBusy:
            return [None] * len(patches)

    async def _upsert(self, patches: Sequence[ProductLine]) -> list[Outcome]:
        """Retries after a conflict with a concurrent transaction, whose products the next attempt finds."""
        if not patches:
            return []
        for attempts_left in reversed(range(_MAX_ATTEMPTS)):
            try:
                upserted = await self._upsert_once(patches)
            except (SkuTaken, DatabaseBusy):
                if not attempts_left:
                    raise
            else:
                self._seen.update(upserted.seen)
                return upserted.outcomes
        raise AssertionError  # The last attempt returns or raises.

    async def _upsert_once(self, patches: Sequence[ProductLine]) -> Upserted:
        try:
            return await self._upserts.upsert_many(
                patches,
                self._caller,
                self._seen,
                created_before=self._report.created if self._options.dry_run else 0,
                update_only=self._options.update_only,
                dry_run=self._options.dry_run,
            )
        except DryRun as rolled_back:
            return rolled_back.result


def _lines(contents: Iterable[ProductLine | Outcome]) -> list[ProductLine]:
    return [content for content in contents if isinstance(content, ProductLine)]


def _keys(line: ProductLine) -> set[int]:
    return {hash(key) for key in (line.id, line.sku) if key}


def _detail(refusal: DomainError) -> str:
    errors = refusal.errors if isinstance(refusal, Invalid) else [FieldError(None, refusal.detail)]
    details = [f"{error.pointer[1:]}: {error.detail}" if error.pointer else error.detail for error in errors]
    # Escape control characters from the file, which could otherwise reach the operator's terminal.
    return "".join(
        each if each.isprintable() else ascii(each)[1:-1] for each in "; ".join(details)[:_MAX_DETAIL_LENGTH]
    )


async def export_catalogue(
    products: Products, criteria: Criteria, file_format: Format, options: WriteOptions, caller: Caller
) -> AsyncGenerator[bytes]:
    """The matching products as a file, in chunks. A product that exists throughout the export appears exactly once.

    No database connection is held while a chunk is being sent. Raises the errors of a read. Close the generator when it
    is not needed any longer, so that an interrupted export is in the audit log.
    """
    header = file_format.header(options)
    after: tuple[Any, ...] | None = None
    more = True
    report = ExportReport()
    with _audited("products exported", caller, report):
        while more:
            page, text = await products.export_page(
                criteria, BATCH_SIZE, after, lambda each: file_format.serialize(each, options)
            )
            report.products += len(page.products)
            yield (header + text).encode()
            header, more = "", page.more
            after = criteria.position(page.products[-1]) if more else None
