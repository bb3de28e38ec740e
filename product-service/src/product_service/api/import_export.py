"""The whole catalogue in and out, as a file."""

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
from chassis.http.routing import QueryParameters, Router
from product_service.api.product_query import CriteriaQuery, Flag
from product_service.errors import ImportInterrupted
from product_service.files.formats import FORMATS, Format
from product_service.schemas import ImportReportRead
from product_service.services.import_export import ImportReport, Imports, export_catalogue
from product_service.services.products import Products

_BY_MEDIA_TYPE = {form.media_type: form for form in FORMATS.values()}
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]+)', re.IGNORECASE)
_EXAMPLES = {
    "csv": "name,price,quantity,sku\r\nMechanical keyboard,89.90,12,KB-87-BLK\r\n",
    "ndjson": '{"name": "Mechanical keyboard", "price": "89.90", "quantity": 12, "sku": "KB-87-BLK"}\n',
}
_FILE: dict[str, Any] = {
    form.media_type: {"schema": {"type": "string"}, "example": _EXAMPLES[name]} for name, form in FORMATS.items()
}


class ImportQuery(QueryParameters):
    dry_run: Flag | None = Field(default=None, description="Whether to change nothing, and tell what would be done.")


class ExportQuery(CriteriaQuery):
    format: Literal["csv", "ndjson"] = Field(description="How the file is written.", examples=["csv"])


@dataclass(frozen=True)
class _Upload:
    form: Format
    pieces: AsyncIterator[bytes]


def _upload(request: Request, limit: int) -> _Upload:
    """The file that is sent; raises HTTPException with status 413 or 415 before any of it is read."""
    bodies.require_size(request, limit)
    form = _BY_MEDIA_TYPE[bodies.media_type_of(request, _BY_MEDIA_TYPE)]
    charset = _CHARSET.search(request.headers["content-type"])
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise HTTPException(415, "The file has to be in UTF-8.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "The file must not be compressed.")
    return _Upload(form, bodies.chunks(request, limit))


def router(products: Products, imports: Imports, max_import_bytes: int) -> Router:
    routes = Router(prefix="/products", tags=["products"])

    async def upload(request: Request) -> _Upload:
        return _upload(request, max_import_bytes)

    @routes.post(
        "/import",
        summary="Import products from a file",
        response_description="What became of each line.",
        openapi_extra={"requestBody": {"required": True, "content": _FILE}},
        responses=documented(*AUTHENTICATION_ERRORS, ImportInterrupted, *WRITE_ERRORS),
        response_model=ImportReportRead,
    )
    async def import_products(
        # Before the caller, so that what can't be read is told before a token is looked at.
        file: Annotated[_Upload, Depends(upload)],
        query: Annotated[ImportQuery, Query()],
        caller: CurrentCaller,
    ) -> Any:
        """CSV with a line that names the columns, or NDJSON: a line for each product, as the export writes them.

        A product is found by its `sku`, and created where there is none; what the line does not hold stays as it is.
        Lines that cannot be read, are not valid, or speak of another owner's product are refused, the others are done,
        in batches of 500: what is done stays, also where an import ends early, and the same file can be imported again.
        """
        report = ImportReport()
        await imports.run(file.pieces, file.form, caller, report, dry_run=query.dry_run == "true")
        return report

    @routes.get(
        "/export",
        summary="Export products to a file",
        response_description="The products, as the import takes them.",
        responses={
            200: {
                "content": _FILE,
                "headers": documented_headers({"Content-Disposition": "The name to save the file under."}),
            },
            **documented(*AUTHENTICATION_ERRORS, *READ_ERRORS),
        },
        response_class=StreamingResponse,
        dependencies=[RequireCaller],
    )
    async def export_products(query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
        """All products, or those that the parameters select, as for the list.

        A file that ends early is no whole one: the connection is cut, which every client tells from an end.
        """
        form = FORMATS[query.format]
        pieces = export_catalogue(products, query.criteria, form)
        # What goes wrong before anything is sent gets an answer of its own.
        first = await anext(pieces)

        async def everything() -> AsyncIterator[bytes]:
            yield first
            async for piece in pieces:
                yield piece

        disposition = f'attachment; filename="products.{query.format}"'
        return StreamingResponse(everything(), media_type=form.media_type, headers={"Content-Disposition": disposition})

    return routes
