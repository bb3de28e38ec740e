"""The endpoints that import and export products as files."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field, ValidationInfo, field_validator
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from auth_client.caller import Caller
from auth_client.dependency import AUTHENTICATION_ERRORS, CurrentCaller
from chassis.errors import READ_ERRORS, WRITE_ERRORS, DomainError
from chassis.http.middleware import is_head
from chassis.http.problems import documented, documented_headers
from chassis.http.query_parameters import Flag
from chassis.http.routing import Router
from product_service import schemas
from product_service.api.dependencies import writer
from product_service.api.import_query import ImportQuery
from product_service.api.product_query import CriteriaQuery
from product_service.api.read_ahead import ReadAhead
from product_service.api.uploads import Upload, upload
from product_service.errors import ImportInProgress, ImportInterrupted, ImportLimitExceeded, TooManyWrites
from product_service.files.formats import FORMATS
from product_service.files.options import WriteOptions
from product_service.services.import_export import ImportOptions, ImportReport, Imports, export_catalogue
from product_service.services.products import Products
from product_service.services.write_limit import WriteLimit
from product_service.settings import Settings

_EXAMPLES = {
    "csv": "name,price,quantity,sku\r\nMechanical keyboard,89.90,12,KB-87-BLK\r\n",
    "ndjson": '{"name": "Mechanical keyboard", "price": "89.90", "quantity": 12, "sku": "KB-87-BLK"}\n',
}
_FILE_CONTENT: dict[str, Any] = {
    file_format.media_type: {"schema": {"type": "string"}, "example": _EXAMPLES[name]}
    for name, file_format in FORMATS.items()
}

# Client generators take a body of this format from a file.
_UPLOAD_CONTENT = {
    media_type: {**content, "schema": {"type": "string", "format": "binary"}}
    for media_type, content in _FILE_CONTENT.items()
}


def _limited(options: ImportOptions, settings: Settings) -> ImportOptions:
    """The options with the limits for clients. Operators have none."""
    read = replace(options.read, max_lines=settings.max_import_lines, max_blank_lines=settings.max_import_blank_lines)
    return replace(options, read=read, max_refused_lines=settings.max_import_refused_lines)


class ExportQuery(CriteriaQuery):
    format: Literal["csv", "ndjson"] = Field(description="The file format.", examples=["csv"])
    include_id: Flag | None = Field(
        default=None, description="Include the id of each product, by which an import finds it again."
    )
    profile: Literal["spreadsheet"] | None = Field(
        default=None,
        description="`spreadsheet` protects texts in CSV that a spreadsheet would change, such as leading zeros, long "
        "numbers and dates, with an apostrophe that the import removes.",
    )
    bom: Flag | None = Field(
        default=None,
        description="Whether CSV begins with a byte order mark, by which spreadsheets recognise UTF-8. By default only "
        "with `profile=spreadsheet`.",
    )

    @field_validator("profile", "bom")
    @classmethod
    def _check_format(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("format") == "ndjson":
            raise ValueError("Only for format=csv")
        return value

    @property
    def options(self) -> WriteOptions:
        spreadsheet = self.profile == "spreadsheet"
        bom = spreadsheet if self.bom is None else self.bom
        return WriteOptions(include_id=bool(self.include_id), bom=bom, spreadsheet=spreadsheet)


class _Download(StreamingResponse):
    """A file that is made while it is sent."""

    def __init__(self, content: AsyncIterator[bytes], source: AsyncGenerator[bytes], **options: Any) -> None:
        """:param source: closed at the end, also if the client has disconnected"""
        super().__init__(content, **options)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._source):
            await super().__call__(scope, receive, send)


def router(products: Products, imports: Imports, write_limit: WriteLimit, settings: Settings) -> Router:
    routes = Router(prefix="/products", tags=["products"])
    read_ahead = ReadAhead()

    async def read_headers(request: Request) -> Upload:
        return upload(request, settings.max_import_bytes)

    @routes.post(
        "/import",
        summary="Import products from a file",
        response_description="The number of products created, updated, unchanged and refused, and the errors.",
        openapi_extra={"requestBody": {"required": True, "content": _UPLOAD_CONTENT}},
        responses=documented(
            *AUTHENTICATION_ERRORS,
            ImportInProgress,
            ImportLimitExceeded,
            TooManyWrites,
            ImportInterrupted,
            *WRITE_ERRORS,
        ),
        response_model=schemas.ImportReport,
    )
    async def import_products(
        file: Annotated[Upload, Depends(read_headers)],
        query: Annotated[ImportQuery, Query()],
        caller: Annotated[Caller, writer(write_limit)],
        request: Request,
    ) -> Any:
        """Accepts CSV with a header line, or NDJSON with one product per line, as the export writes them.

        The file is the body, or the only part of a form (`multipart/form-data`). CSV may have other separators, decimal
        commas and other names of columns. The response tells how it was read.

        Lines are matched to products by `sku`; a line with a new SKU creates a product. Fields missing from a line keep
        their values. Invalid lines, and lines for products that the caller can't change, are refused; the others are
        saved in batches of 500. If an import stops early, saved batches remain, the error says how far it got,
        and importing the same file again is safe. An import stops when it has refused 10,000 lines, or when the client
        disconnects. An account can have one import at a time.
        """
        report = ImportReport()
        try:
            with imports.one_at_a_time(caller):
                async with read_ahead.read(request, settings.max_import_bytes) as body:
                    file_format, chunks = await file.open(body)
                    options = _limited(query.options, settings)
                    await imports.run(chunks, file_format, caller, report, options, body.check)
        except (DomainError, HTTPException) as error:
            if report.lines and not query.dry_run:
                error.detail = f"{error.detail} {report.progress}"
            raise
        return report

    @routes.get(
        "/export",
        summary="Export products to a file",
        response_description="The products, in the format that the import accepts.",
        responses={
            200: {
                "content": _FILE_CONTENT,
                "headers": documented_headers({"Content-Disposition": "The suggested file name."}),
            },
            **documented(*AUTHENTICATION_ERRORS, *READ_ERRORS),
        },
        response_class=StreamingResponse,
    )
    async def export_products(
        query: Annotated[ExportQuery, Query()], caller: CurrentCaller, request: Request
    ) -> StreamingResponse:
        """Exports all products, or those that match the filters of the list.

        If an export fails midway, the service aborts the connection, so that clients detect the incomplete file.
        """
        file_format = FORMATS[query.format]
        chunks = export_catalogue(products, query.criteria, file_format, query.options, caller)
        # Read the first chunk here: an error before anything is sent still gets a proper error response.
        first = None if is_head(request.scope) else await anext(chunks)

        async def content() -> AsyncIterator[bytes]:
            if first is not None:
                yield first
                async for chunk in chunks:
                    yield chunk

        disposition = f'attachment; filename="products.{query.format}"'
        return _Download(
            content(), chunks, media_type=file_format.media_type, headers={"Content-Disposition": disposition}
        )

    return routes
