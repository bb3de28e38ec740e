"""The endpoints that import and export products as files."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.exceptions import HTTPException

from auth_client.dependency import AUTHENTICATION_ERRORS, CurrentCaller, RequireCaller
from chassis.errors import READ_ERRORS, WRITE_ERRORS
from chassis.http import bodies
from chassis.http.problems import documented, documented_headers
from chassis.http.routing import Flag, QueryParameters, Router
from product_service import schemas
from product_service.api.product_query import CriteriaQuery
from product_service.errors import ImportInterrupted
from product_service.files.formats import FORMATS, Format
from product_service.services.import_export import ImportReport, Imports, export_catalogue
from product_service.services.products import Products

_BY_MEDIA_TYPE = {file_format.media_type: file_format for file_format in FORMATS.values()}
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]+)', re.IGNORECASE)
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


class ImportQuery(QueryParameters):
    dry_run: Flag | None = Field(default=None, description="Report what the import would do, and change nothing.")


class ExportQuery(CriteriaQuery):
    format: Literal["csv", "ndjson"] = Field(description="The file format.", examples=["csv"])


@dataclass(frozen=True)
class _Upload:
    file_format: Format
    chunks: AsyncIterator[bytes]


def _upload(request: Request, limit: int) -> _Upload:
    """Check the headers of the upload; raises HTTPException with status 413 or 415 before the body is read."""
    bodies.require_size(request, limit)
    file_format = _BY_MEDIA_TYPE[bodies.media_type_of(request, _BY_MEDIA_TYPE)]
    charset = _CHARSET.search(request.headers["content-type"])
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise HTTPException(415, "The file must be encoded in UTF-8.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "The file must not be compressed.")
    return _Upload(file_format, bodies.chunks(request, limit))


def router(products: Products, imports: Imports, max_import_bytes: int) -> Router:
    routes = Router(prefix="/products", tags=["products"])

    async def upload(request: Request) -> _Upload:
        return _upload(request, max_import_bytes)

    @routes.post(
        "/import",
        summary="Import products from a file",
        response_description="The number of products created, updated, unchanged and refused, and the errors.",
        openapi_extra={"requestBody": {"required": True, "content": _UPLOAD_CONTENT}},
        responses=documented(*AUTHENTICATION_ERRORS, ImportInterrupted, *WRITE_ERRORS),
        response_model=schemas.ImportReport,
    )
    async def import_products(
        # Declared before the caller, so that an unreadable body is rejected before the token is validated.
        file: Annotated[_Upload, Depends(upload)],
        query: Annotated[ImportQuery, Query()],
        caller: CurrentCaller,
    ) -> Any:
        """Accepts CSV with a header line, or NDJSON with one product per line, as the export writes them.

        Lines are matched to products by `sku`; a line with a new SKU creates a product. Fields missing from a line keep
        their values. Invalid lines, and lines for products that the caller can't change, are refused; the others are
        saved in batches of 500. If an import stops early, saved batches remain, and importing the same file again is
        safe.
        """
        report = ImportReport()
        await imports.run(file.chunks, file.file_format, caller, report, dry_run=bool(query.dry_run))
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
        dependencies=[RequireCaller],
    )
    async def export_products(query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
        """Exports all products, or those that match the filters of the list.

        If an export fails midway, the service aborts the connection, so that clients detect the incomplete file.
        """
        file_format = FORMATS[query.format]
        chunks = export_catalogue(products, query.criteria, file_format)
        # Read the first chunk here: an error before anything is sent still gets a proper error response.
        first = await anext(chunks)

        async def content() -> AsyncIterator[bytes]:
            yield first
            async for chunk in chunks:
                yield chunk

        disposition = f'attachment; filename="products.{query.format}"'
        return StreamingResponse(
            content(), media_type=file_format.media_type, headers={"Content-Disposition": disposition}
        )

    return routes
