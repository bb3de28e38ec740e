"""The whole catalogue in and out, as a file, in batches: neither side ever holds more than one of them.

Each batch of an import is a transaction of its own. One that ends early leaves the batches that are done, and since a
product is found again by its sku, the same file can be imported once more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from chassis.errors import DatabaseBusy, FieldError, Invalid, Unavailable
from product_service.errors import ImportInterrupted, NotTheOwner, SkuTaken
from product_service.files.formats import Format, Line, Reader
from product_service.schemas import ProductPatch
from product_service.services.products import DryRun, Outcome, Products, Upserted

if TYPE_CHECKING:
    from auth_client.caller import Caller
    from product_service.domain.criteria import Criteria

PIECE = 65_536
"""Bytes of a file that are looked at at once."""
BATCH = 500
"""Products that are stored in one transaction, or read at once."""
MOST_REPORTED = 1_000
"""Refused lines that are told of one by one."""
MOST_WITHOUT_SKU = 100_000
"""Lines without a sku in one import: of each it has to be known whether it came before."""

_LONGEST_DETAIL = 500  # characters; a line may hold names that are longer than that
_TRIES = 3


@dataclass(frozen=True)
class RefusedLine:
    line: int
    detail: str


OUTCOMES = ("created", "updated", "unchanged", "refused")


@dataclass
class ImportReport:
    """What became of the lines of an import."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    errors: list[RefusedLine] = field(default_factory=list)
    """The first MOST_REPORTED of those that were refused."""

    @property
    def lines(self) -> int:
        return sum(getattr(self, outcome) for outcome in OUTCOMES)

    def add(self, line: int, outcome: Outcome) -> None:
        if isinstance(outcome, str):
            setattr(self, outcome, getattr(self, outcome) + 1)
            return
        self.refused += 1
        if len(self.errors) < MOST_REPORTED:
            self.errors.append(RefusedLine(line, _detail(outcome)))


class Imports:
    """All imports of a process. They take turns, so that others who write wait for one batch and not for many."""

    def __init__(self, products: Products) -> None:
        self._products = products
        self._turns = asyncio.Lock()

    async def run(
        self, pieces: AsyncIterable[bytes], form: Format, caller: Caller, report: ImportReport, *, dry_run: bool = False
    ) -> None:
        """Create and change products as the file says.

        Raises Invalid where the file cannot be read at all, and ImportInterrupted, or why nothing was done.

        :param pieces: the file, cut anywhere
        :param caller: in whose name it is done: the owner of what is new
        :param report: what became of the lines is added to it, batch by batch
        :param dry_run: only look what would become of them. Each batch is looked at by itself: what one would create,
            the next does not find.
        """
        run = _Import(self._products, caller, report, dry_run=dry_run)
        async for lines in _batches(pieces, form.reader()):
            async with self._turns:
                await run.do(lines)


async def _batches(pieces: AsyncIterable[bytes], reader: Reader) -> AsyncIterator[list[Line]]:
    """Lines, BATCH at a time, and no more of them than that: a piece may hold thousands."""
    batch: list[Line] = []
    async for lines in _fed(pieces, reader):
        # In a thread: to look at some hundred lines takes milliseconds, in which nothing else would be answered.
        while some := await asyncio.to_thread(_next, lines, BATCH - len(batch)):
            batch += some
            if len(batch) == BATCH:
                yield batch
                batch = []
    yield batch


async def _fed(pieces: AsyncIterable[bytes], reader: Reader) -> AsyncIterator[Iterator[Line]]:
    gathered = bytearray()
    async for piece in pieces:
        gathered += piece
        if len(gathered) >= PIECE:
            yield reader.feed(bytes(gathered))
            gathered.clear()
    yield reader.feed(bytes(gathered))
    yield reader.end()


def _next(lines: Iterator[Line], most: int) -> list[Line]:
    return list(islice(lines, most))


class _Import:
    def __init__(self, products: Products, caller: Caller, report: ImportReport, *, dry_run: bool) -> None:
        self._report = report
        self._products = products
        self._caller = caller
        self._dry_run = dry_run
        self._seen: Counter[int] = Counter()  # How often each line without a sku came, by what it says.
        self._without_sku = 0

    async def do(self, lines: Sequence[Line]) -> None:
        contents = [self._within_limits(line.content) for line in lines]
        patches = [content for content in contents if isinstance(content, ProductPatch)]
        try:
            outcomes = iter(await self._put(patches) if patches else ())
        except Unavailable as error:
            if self._report.lines and not self._dry_run:
                raise ImportInterrupted from error
            raise
        for line, content in zip(lines, contents, strict=True):
            self._report.add(line.number, next(outcomes) if isinstance(content, ProductPatch) else content)

    def _within_limits(self, content: ProductPatch | Invalid) -> ProductPatch | Invalid:
        if isinstance(content, ProductPatch) and not content.sku:
            self._without_sku += 1
            if self._without_sku > MOST_WITHOUT_SKU:
                detail = (
                    f"There are more than {MOST_WITHOUT_SKU} lines without a sku; import the others from another file"
                )
                return Invalid([FieldError("/sku", detail)])
        return content

    async def _put(self, patches: Sequence[ProductPatch]) -> list[Outcome]:
        for more_tries in reversed(range(_TRIES)):
            try:
                upserted = await self._upsert(patches)
            except (SkuTaken, DatabaseBusy):
                # Another transaction was faster. What it has stored is found the next time.
                if not more_tries:
                    raise
            else:
                self._seen += upserted.seen
                return upserted.outcomes
        raise AssertionError  # The last try returns or raises.

    async def _upsert(self, patches: Sequence[ProductPatch]) -> Upserted:
        try:
            return await self._products.upsert_many(patches, self._caller, self._seen, dry_run=self._dry_run)
        except DryRun as rolled_back:
            return rolled_back.result


def _detail(refusal: NotTheOwner | Invalid) -> str:
    mistakes = refusal.errors if isinstance(refusal, Invalid) else [FieldError(None, refusal.detail)]
    told = [f"{mistake.pointer[1:]}: {mistake.detail}" if mistake.pointer else mistake.detail for mistake in mistakes]
    # What people have written into the file must not tell their terminal what to do.
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in "; ".join(told)[:_LONGEST_DETAIL])


async def export_catalogue(products: Products, criteria: Criteria, form: Format) -> AsyncIterator[bytes]:
    """The selected products as a file, piece by piece: each that is there throughout, once.

    No connection to the database is held while a piece is on its way. Raises what a read raises.
    """
    head: str = form.head
    after: tuple[Any, ...] | None = None
    more = True
    while more:
        page, text = await products.export_page(criteria, BATCH, after, form.write)
        yield (head + text).encode()
        head, more = "", page.more
        after = criteria.position(page.products[-1]) if more else None
