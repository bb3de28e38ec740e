"""The product endpoints: public reads, and writes that require authentication."""

import json
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import Field
from starlette.convertors import StringConvertor, register_url_convertor

from auth_client.caller import Caller
from auth_client.dependency import AUTHENTICATION_ERRORS, CurrentCaller
from chassis.errors import READ_ERRORS, WRITE_ERRORS, DomainError, PreconditionFailed
from chassis.http.bodies import JSON
from chassis.http.etags import ChangePrecondition, IfNoneMatch, format_etag
from chassis.http.paging import IdCursor, Limit, link_header, read_cursor, write_cursor
from chassis.http.problems import documented, documented_headers
from chassis.http.query_parameters import QueryParameters
from chassis.http.routing import Router
from chassis.ids import RowId
from product_service.api.dependencies import IdempotencyKey, writer
from product_service.api.product_query import ProductQuery
from product_service.domain.criteria import MAX_COUNT
from product_service.errors import (
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InsufficientStock,
    NotTheOwner,
    ProductNotFound,
    ProductQuotaExceeded,
    SkuTaken,
    TooManyWrites,
    TooMuchStock,
)
from product_service.models import Product
from product_service.schemas import ProductChange, ProductCreate, ProductPatch, ProductRead, StockAdjustment
from product_service.services.idempotency import Replay
from product_service.services.products import Products
from product_service.services.write_limit import WriteLimit


class _ProductIdConvertor(StringConvertor):
    """Matches any path segment except those that are routes of their own."""

    regex = "(?!(?:import|export)$)[^/]+"


register_url_convertor("product_id", _ProductIdConvertor())


class HistoryQuery(QueryParameters):
    limit: Limit = Field(default=20, description="Maximum number of changes to return.")
    cursor: IdCursor | None = None


def _public_errors(*errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    return documented(*errors, *READ_ERRORS)


def _write_errors(*errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    return documented(*AUTHENTICATION_ERRORS, TooManyWrites, *errors, *WRITE_ERRORS)


_ETAG_HEADER = {"ETag": "The version of the product, for `If-Match` and `If-None-Match`."}
_REPLAYED_HEADER = {"Idempotency-Replayed": "`true` if this repeats an earlier response."}
_LIST_HEADERS = {
    "Link": 'The first page (`rel="first"`) and the next page (`rel="next"`), if there is one.',
    "X-Total-Count": "The number of products on all pages; only with `count=true`. `10000+` if there are more.",
}
_NEXT_PAGE_HEADER = {"Link": 'The next page (`rel="next"`), if there is one.'}
_WITH_ETAG: dict[str, Any] = {"headers": documented_headers(_ETAG_HEADER)}
_KEY_ERRORS = (IdempotencyInProgress, IdempotencyKeyReused)


def _product_response(product: Product, response: Response) -> ProductRead:
    response.headers["ETag"] = format_etag(product.version)
    return ProductRead.of(product)


def _replay_response(replay: Replay, status: int) -> Response:
    """The stored response, byte for byte; `Location` and `ETag` are derived from its body."""
    product = json.loads(replay.body)
    headers = {"ETag": format_etag(product["version"]), "Idempotency-Replayed": "true"}
    if status == 201:
        headers["Location"] = _location(product["id"])
    return Response(replay.body, status, headers, JSON)


def _location(product_id: int) -> str:
    return f"/products/{product_id}"


def router(products: Products, public_products: Products, write_limit: WriteLimit) -> Router:
    """:param public_products: for clients without a token; what it reads may be a moment old"""

    def readable(request: Request) -> Products:
        # A client that writes has a token. With it, the client reads what it has written, in every process.
        return products if "authorization" in request.headers else public_products

    routes = Router(prefix="/products", tags=["products"])
    Writer = Annotated[Caller, writer(write_limit)]  # noqa: N806 - it is a type

    @routes.get(
        "",
        summary="List products",
        response_description="A page of products.",
        responses={200: {"headers": documented_headers(_LIST_HEADERS)}, **_public_errors()},
    )
    async def list_products(
        query: Annotated[ProductQuery, Query()], request: Request, response: Response
    ) -> list[ProductRead]:
        """Follow the `Link` header to get every product once, even if products are created or deleted meanwhile."""
        page = await readable(request).page(
            query.selection.criteria,
            query.limit,
            skip=query.skip or 0,
            after=query.cursor.after if query.cursor else None,
            count=bool(query.count),
        )
        next_page = {"next": query.next_page(page.products[-1])} if page.more else {}
        response.headers["Link"] = link_header("/products", first=query.first_page(), **next_page)
        if page.total is not None:
            response.headers["X-Total-Count"] = str(page.total) if page.total <= MAX_COUNT else f"{MAX_COUNT}+"
        return [ProductRead.of(product) for product in page.products]

    @routes.get(
        "/{product_id:product_id}",
        summary="Show a product",
        response_description="The product.",
        responses={
            200: _WITH_ETAG,
            304: {"description": "The client already has this version.", **_WITH_ETAG},
            **_public_errors(ProductNotFound),
        },
        response_model=ProductRead,
    )
    async def show_product(
        product_id: RowId, matches: IfNoneMatch, request: Request, response: Response
    ) -> ProductRead | Response:
        """Public. With the `ETag` that you have in `If-None-Match`, an unchanged product is a 304 without a body."""
        product = await readable(request).get(product_id)
        if matches(product.version):
            return Response(status_code=304, headers={"ETag": format_etag(product.version)})
        return _product_response(product, response)

    @routes.post(
        "",
        status_code=201,
        summary="Create a product",
        response_description="The new product. The caller owns it.",
        responses={
            201: {
                "headers": documented_headers(
                    {"Location": "The path of the product.", **_ETAG_HEADER, **_REPLAYED_HEADER}
                )
            },
            **_write_errors(ProductQuotaExceeded, SkuTaken, *_KEY_ERRORS),
        },
        response_model=ProductRead,
    )
    async def create_product(
        draft: ProductCreate, caller: Writer, key: IdempotencyKey, response: Response
    ) -> ProductRead | Response:
        """The caller becomes the owner. With an `Idempotency-Key`, a repeated request creates nothing new."""
        result = await products.create(draft, caller, key)
        if isinstance(result, Replay):
            return _replay_response(result, 201)
        response.headers["Location"] = _location(result.id)
        return _product_response(result, response)

    change_errors = (ProductNotFound, NotTheOwner, PreconditionFailed, SkuTaken)
    change_responses = {200: _WITH_ETAG, **_write_errors(*change_errors)}

    @routes.put(
        "/{product_id:product_id}",
        summary="Change a product",
        response_description="The updated product.",
        responses=change_responses,
    )
    async def change_product(
        product_id: RowId,
        patch: ProductPatch,
        caller: Writer,
        precondition: ChangePrecondition,
        response: Response,
    ) -> ProductRead:
        """Sets the fields sent and keeps the others; null clears `description`, `sku` and `category`. The whole product
        can be sent back as it was read: the read-only fields are accepted if they have their current values.

        To avoid overwriting another change, send the `ETag` that you last saw in `If-Match`. If the product has changed
        since, the response is 412.
        """
        return _product_response(await products.change(product_id, patch, caller, precondition), response)

    @routes.patch(
        "/{product_id:product_id}",
        summary="Change a product with a merge patch",
        response_description="The updated product.",
        responses=change_responses,
    )
    async def patch_product(
        product_id: RowId,
        patch: ProductPatch,
        caller: Writer,
        precondition: ChangePrecondition,
        response: Response,
    ) -> ProductRead:
        """Same as PUT. Also accepts `application/merge-patch+json` (RFC 7396)."""
        return await change_product(product_id, patch, caller, precondition, response)

    @routes.delete(
        "/{product_id:product_id}",
        status_code=204,
        summary="Delete a product",
        response_description="The product was deleted.",
        responses=_write_errors(ProductNotFound, NotTheOwner, PreconditionFailed),
    )
    async def delete_product(product_id: RowId, caller: Writer, precondition: ChangePrecondition) -> Response:
        """For the owner and admins. The history is kept, and the SKU becomes available."""
        await products.delete(product_id, caller, precondition)
        return Response(status_code=204)

    @routes.post(
        "/{product_id:product_id}/stock",
        summary="Adjust the stock of a product",
        response_description="The updated product.",
        responses={
            200: {"headers": documented_headers({**_ETAG_HEADER, **_REPLAYED_HEADER})},
            **_write_errors(
                ProductNotFound, NotTheOwner, PreconditionFailed, InsufficientStock, TooMuchStock, *_KEY_ERRORS
            ),
        },
        response_model=ProductRead,
    )
    async def adjust_stock(
        product_id: RowId,
        adjustment: StockAdjustment,
        caller: Writer,
        precondition: ChangePrecondition,
        key: IdempotencyKey,
        response: Response,
    ) -> ProductRead | Response:
        """Atomic: concurrent adjustments cannot take more than is in stock."""
        result = await products.adjust_stock(product_id, adjustment, caller, precondition, key)
        return _replay_response(result, 200) if isinstance(result, Replay) else _product_response(result, response)

    @routes.get(
        "/{product_id:product_id}/history",
        summary="Show the history of a product",
        response_description="A page of changes, newest first.",
        responses={
            200: {"headers": documented_headers(_NEXT_PAGE_HEADER)},
            **documented(*AUTHENTICATION_ERRORS, ProductNotFound, NotTheOwner, *READ_ERRORS),
        },
    )
    async def show_history(
        product_id: RowId, query: Annotated[HistoryQuery, Query()], caller: CurrentCaller, response: Response
    ) -> list[ProductChange]:
        """For the owner and admins. They can still read it after the product is deleted."""
        before = read_cursor(query.cursor) if query.cursor else None
        changes, more = await products.history(product_id, caller, before, query.limit)
        if more:
            next_page = {"limit": query.limit, "cursor": write_cursor(changes[-1].id)}
            response.headers["Link"] = link_header(f"{_location(product_id)}/history", next=next_page)
        return [ProductChange.model_validate(change) for change in changes]

    return routes
