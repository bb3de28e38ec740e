"""The catalogue: public reads, and writes of callers that the user service vouches for."""

import json
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import Field
from starlette.convertors import StringConvertor, register_url_convertor

from auth_client.dependency import AUTHENTICATION_ERRORS, CurrentCaller
from chassis.errors import READ_ERRORS, WRITE_ERRORS, DomainError, PreconditionFailed
from chassis.http.bodies import JSON
from chassis.http.etags import IfMatch, IfNoneMatch, format_etag
from chassis.http.paging import IdCursor, Limit, link_header, read_cursor, write_cursor
from chassis.http.problems import documented, documented_headers
from chassis.http.routing import QueryParameters, Router
from chassis.ids import RowId
from product_service.api.dependencies import IdempotencyKey
from product_service.api.product_query import ProductQuery
from product_service.errors import (
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InsufficientStock,
    NotTheOwner,
    ProductNotFound,
    SkuTaken,
    TooMuchStock,
)
from product_service.models import Product
from product_service.schemas import ChangeRead, ProductCreate, ProductPatch, ProductRead, StockAdjustment
from product_service.services.idempotency import Replay
from product_service.services.products import Products


class _Row(StringConvertor):
    """A part of a path that may be an id: anything but what is an address of its own, with methods of its own."""

    regex = "(?!(?:import|export)$)[^/]+"


register_url_convertor("row", _Row())


class HistoryQuery(QueryParameters):
    limit: Limit = Field(default=20, description="Changes to answer at most.")
    cursor: IdCursor | None = None


def _public(*errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    return documented(*errors, *READ_ERRORS)


def _protected(*errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    return documented(*AUTHENTICATION_ERRORS, *errors, *WRITE_ERRORS)


_ETAG = {"ETag": "The version of the product, for `If-Match` and `If-None-Match`."}
_REPLAYED = {"Idempotency-Replayed": "`true` where this was answered before."}
_LINKS = {
    "Link": 'The first page, as `rel="first"`, and the next one, as `rel="next"`, where there is one.',
    "X-Total-Count": "How many products there are on all pages; with `count=true`.",
}
_NEXT = {"Link": 'The next page, as `rel="next"`, where there is one.'}
_TAGGED: dict[str, Any] = {"headers": documented_headers(_ETAG)}
_KEY_ERRORS = (IdempotencyInProgress, IdempotencyKeyReused)


def _answer(product: Product, response: Response) -> ProductRead:
    response.headers["ETag"] = format_etag(product.version)
    return ProductRead.of(product)


def _replayed(replay: Replay, status: int) -> Response:
    """What was answered before, word for word; `Location` and `ETag` follow from it."""
    product = json.loads(replay.body)
    headers = {"ETag": format_etag(product["version"]), "Idempotency-Replayed": "true"}
    if status == 201:
        headers["Location"] = _address(product["id"])
    return Response(replay.body, status, headers, JSON)


def _address(product_id: int) -> str:
    return f"/products/{product_id}"


def router(products: Products) -> Router:
    routes = Router(prefix="/products", tags=["products"])

    @routes.get(
        "",
        summary="List products",
        response_description="A page of products.",
        responses={200: {"headers": documented_headers(_LINKS)}, **_public()},
    )
    async def list_products(query: Annotated[ProductQuery, Query()], response: Response) -> list[ProductRead]:
        """Follow `Link` to see every product once, whatever is inserted or deleted meanwhile."""
        page = await products.page(
            query.selection.criteria,
            query.limit,
            skip=query.skip or 0,
            after=query.cursor.after if query.cursor else None,
            count=query.count == "true",
        )
        following = {"next": query.next(page.products[-1])} if page.more else {}
        response.headers["Link"] = link_header("/products", first=query.first(), **following)
        if page.total is not None:
            response.headers["X-Total-Count"] = str(page.total)
        return [ProductRead.of(product) for product in page.products]

    @routes.get(
        "/{product_id:row}",
        summary="Show a product",
        response_description="The product.",
        responses={
            200: _TAGGED,
            304: {"description": "It is of a version that the client has.", **_TAGGED},
            **_public(ProductNotFound),
        },
        response_model=ProductRead,
    )
    async def show_product(product_id: RowId, known: IfNoneMatch, response: Response) -> ProductRead | Response:
        product = await products.get(product_id)
        if known(product.version):
            return Response(status_code=304, headers={"ETag": format_etag(product.version)})
        return _answer(product, response)

    @routes.post(
        "",
        status_code=201,
        summary="Create a product",
        response_description="The new product; it belongs to the caller.",
        responses={
            201: {"headers": documented_headers({"Location": "The address of the product.", **_ETAG, **_REPLAYED})},
            **_protected(SkuTaken, *_KEY_ERRORS),
        },
        response_model=ProductRead,
    )
    async def create_product(
        draft: ProductCreate, caller: CurrentCaller, key: IdempotencyKey, response: Response
    ) -> ProductRead | Response:
        product = await products.create(draft, caller, key)
        if isinstance(product, Replay):
            return _replayed(product, 201)
        response.headers["Location"] = _address(product.id)
        return _answer(product, response)

    @routes.put(
        "/{product_id:row}",
        summary="Change a product",
        response_description="The product as it is now.",
        responses={200: _TAGGED, **_protected(ProductNotFound, NotTheOwner, PreconditionFailed, SkuTaken)},
    )
    async def change_product(
        product_id: RowId, patch: ProductPatch, caller: CurrentCaller, versions: IfMatch, response: Response
    ) -> ProductRead:
        """The fields sent are set, those left out stay as they are; null clears `description`, `sku` and `category`.

        With the `ETag` of the product that you saw in `If-Match`, nobody's change is lost: if there was one, this is a
        412.
        """
        return _answer(await products.change(product_id, patch, caller, versions), response)

    @routes.patch(
        "/{product_id:row}",
        summary="Change a product with a merge patch",
        response_description="The product as it is now.",
        responses={200: _TAGGED, **_protected(ProductNotFound, NotTheOwner, PreconditionFailed, SkuTaken)},
    )
    async def patch_product(
        product_id: RowId, patch: ProductPatch, caller: CurrentCaller, versions: IfMatch, response: Response
    ) -> ProductRead:
        """The same as PUT, as RFC 7396 has it."""
        return await change_product(product_id, patch, caller, versions, response)

    @routes.delete(
        "/{product_id:row}",
        status_code=204,
        summary="Delete a product",
        response_description="It is gone.",
        responses=_protected(ProductNotFound, NotTheOwner, PreconditionFailed),
    )
    async def delete_product(product_id: RowId, caller: CurrentCaller, versions: IfMatch) -> Response:
        await products.delete(product_id, caller, versions)
        return Response(status_code=204)

    @routes.post(
        "/{product_id:row}/stock",
        summary="Add to the stock, or take from it",
        response_description="The product as it is now.",
        responses={
            200: {"headers": documented_headers({**_ETAG, **_REPLAYED})},
            **_protected(
                ProductNotFound, NotTheOwner, PreconditionFailed, InsufficientStock, TooMuchStock, *_KEY_ERRORS
            ),
        },
        response_model=ProductRead,
    )
    async def adjust_stock(
        product_id: RowId,
        adjustment: StockAdjustment,
        caller: CurrentCaller,
        versions: IfMatch,
        key: IdempotencyKey,
        response: Response,
    ) -> ProductRead | Response:
        """One step, however many do it at once: never more is taken than there is."""
        product = await products.adjust_stock(product_id, adjustment, caller, versions, key)
        return _replayed(product, 200) if isinstance(product, Replay) else _answer(product, response)

    @routes.get(
        "/{product_id:row}/history",
        summary="Who changed a product",
        response_description="Changes, the newest first.",
        responses={
            200: {"headers": documented_headers(_NEXT)},
            **documented(*AUTHENTICATION_ERRORS, ProductNotFound, NotTheOwner, *READ_ERRORS),
        },
    )
    async def show_history(
        product_id: RowId, query: Annotated[HistoryQuery, Query()], caller: CurrentCaller, response: Response
    ) -> list[ChangeRead]:
        """For the owner and for admins. It goes on after the product was deleted, for the last owner."""
        before = read_cursor(query.cursor) if query.cursor else None
        changes, more = await products.history(product_id, caller, before, query.limit)
        if more:
            following = {"limit": query.limit, "cursor": write_cursor(changes[-1].id)}
            response.headers["Link"] = link_header(f"{_address(product_id)}/history", next=following)
        return [ChangeRead.model_validate(change) for change in changes]

    return routes
