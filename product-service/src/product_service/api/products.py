"""The catalogue: public reads, and writes of whom the user service vouches for."""

from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import Field
from starlette.convertors import StringConvertor, register_url_convertor

from auth_client.errors import AuthUnavailable
from chassis.errors import (
    READ_ERRORS,
    WRITE_ERRORS,
    DomainError,
    InvalidToken,
    NotAuthenticated,
    PreconditionFailed,
)
from chassis.http import etags
from chassis.http.etags import IfMatch, IfNoneMatch
from chassis.http.paging import IdCursor, Limit, RowId, link_header, read_cursor, write_cursor
from chassis.http.problems import documented, documented_headers
from chassis.http.routing import QueryParameters, Router
from product_service.api.dependencies import CurrentCaller, Once, Read, Write
from product_service.errors import (
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InsufficientStock,
    NotTheOwner,
    ProductNotFound,
    SkuTaken,
    TooMuchStock,
)
from product_service.listing import ProductQuery
from product_service.models import Product
from product_service.schemas import ChangeRead, ProductCreate, ProductPatch, ProductRead, StockAdjustment
from product_service.services.idempotency import Answer
from product_service.services.products import Products


class _Row(StringConvertor):
    """A part of a path that may be an id: anything but what is an address of its own, with methods of its own."""

    regex = "(?!(?:import|export)$)[^/]+"


register_url_convertor("row", _Row())

router = Router(prefix="/products", tags=["products"])


class HistoryQuery(QueryParameters):
    limit: Limit = Field(default=20, description="Changes to answer at most.")
    cursor: IdCursor | None = None


def _public(*errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    return documented(*errors, *READ_ERRORS)


def _protected(*errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    return documented(NotAuthenticated, InvalidToken, *errors, AuthUnavailable, *WRITE_ERRORS)


def _protected_read(*errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    return documented(NotAuthenticated, InvalidToken, *errors, AuthUnavailable, *READ_ERRORS)


_ETAG = {"ETag": "The version of the product, for `If-Match` and `If-None-Match`."}
_REPLAYED = {"Idempotency-Replayed": "`true` where this was answered before."}
_ONCE_ERRORS = (IdempotencyInProgress, IdempotencyKeyReused)
_TAGGED: dict[str, Any] = {"headers": documented_headers(_ETAG)}
_NEXT = 'The next page, as `rel="next"`, where there is one.'


def _answer(status: int, product: Product, headers: dict[str, str] | None = None) -> Answer:
    tagged = {**(headers or {}), "ETag": etags.written(product.version)}
    return Answer(status, tagged, ProductRead.of(product).model_dump_json())


def _tagged(product: Product, response: Response) -> ProductRead:
    response.headers["ETag"] = etags.written(product.version)
    return ProductRead.of(product)


@router.get(
    "",
    summary="List products",
    response_description="A page of products.",
    responses={
        200: {
            "headers": documented_headers(
                {
                    "Link": 'The first page, as `rel="first"`, and the next one, as `rel="next"`, where there is one.',
                    "X-Total-Count": "How many products there are on all pages; with `count=true`.",
                }
            )
        },
        **_public(),
    },
)
async def list_products(query: Annotated[ProductQuery, Query()], read: Read, response: Response) -> list[ProductRead]:
    """Follow `Link` to see every product once, whatever is inserted or deleted meanwhile."""
    criteria, after = query.criteria, query.cursor.after if query.cursor else None
    page = await read(
        lambda products: products.page(
            criteria, query.limit, skip=query.skip or 0, after=after, count=query.count == "true"
        )
    )
    following = {"next": query.next(page.products[-1])} if page.more else {}
    response.headers["Link"] = link_header("/products", first=query.first(), **following)
    if page.total is not None:
        response.headers["X-Total-Count"] = str(page.total)
    return [ProductRead.of(product) for product in page.products]


@router.get(
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
async def show_product(product_id: RowId, known: IfNoneMatch, read: Read, response: Response) -> ProductRead | Response:
    product = await read(lambda products: products.get(product_id))
    if known(product.version):
        return Response(status_code=304, headers={"ETag": etags.written(product.version)})
    return _tagged(product, response)


@router.post(
    "",
    status_code=201,
    summary="Create a product",
    response_description="The new product; it belongs to the caller.",
    responses={
        201: {"headers": documented_headers({"Location": "The address of the product.", **_ETAG, **_REPLAYED})},
        **_protected(SkuTaken, *_ONCE_ERRORS),
    },
    response_model=ProductRead,
)
async def create_product(draft: ProductCreate, caller: CurrentCaller, once: Once) -> Response:
    def create(products: Products) -> Answer:
        product = products.create(draft, owner=caller)
        return _answer(201, product, {"Location": f"/products/{product.id}"})

    return await once(draft.model_dump_json(), create)


@router.put(
    "/{product_id:row}",
    summary="Change a product",
    response_description="The product as it is now.",
    responses={200: _TAGGED, **_protected(ProductNotFound, NotTheOwner, PreconditionFailed, SkuTaken)},
)
async def change_product(
    product_id: RowId, patch: ProductPatch, caller: CurrentCaller, versions: IfMatch, write: Write, response: Response
) -> ProductRead:
    """The fields sent are set, those left out stay as they are; null clears `description`, `sku` and `category`.

    With the `ETag` of the product that you saw in `If-Match`, nobody's change is lost: if there was one, this is a 412.
    """
    return _tagged(await write(lambda products: products.change(product_id, patch, caller, versions)), response)


@router.patch(
    "/{product_id:row}",
    summary="Change a product with a merge patch",
    response_description="The product as it is now.",
    responses={200: _TAGGED, **_protected(ProductNotFound, NotTheOwner, PreconditionFailed, SkuTaken)},
)
async def patch_product(
    product_id: RowId, patch: ProductPatch, caller: CurrentCaller, versions: IfMatch, write: Write, response: Response
) -> ProductRead:
    """The same as PUT, as RFC 7396 has it."""
    return await change_product(product_id, patch, caller, versions, write, response)


@router.delete(
    "/{product_id:row}",
    status_code=204,
    summary="Delete a product",
    response_description="It is gone.",
    responses=_protected(ProductNotFound, NotTheOwner, PreconditionFailed),
)
async def delete_product(product_id: RowId, caller: CurrentCaller, versions: IfMatch, write: Write) -> Response:
    await write(lambda products: products.delete(product_id, caller, versions))
    return Response(status_code=204)


@router.post(
    "/{product_id:row}/stock",
    summary="Add to the stock, or take from it",
    response_description="The product as it is now.",
    responses={
        200: {"headers": documented_headers({**_ETAG, **_REPLAYED})},
        **_protected(ProductNotFound, NotTheOwner, PreconditionFailed, InsufficientStock, TooMuchStock, *_ONCE_ERRORS),
    },
    response_model=ProductRead,
)
async def adjust_stock(
    product_id: RowId, adjustment: StockAdjustment, caller: CurrentCaller, versions: IfMatch, once: Once
) -> Response:
    """One step, however many do it at once: never more is taken than there is."""
    delta, reason = adjustment.delta, adjustment.reason

    def adjust(products: Products) -> Answer:
        return _answer(200, products.adjust_stock(product_id, delta, reason, caller, versions))

    return await once(f"{adjustment.model_dump_json()} {sorted(versions) if versions is not None else None}", adjust)


@router.get(
    "/{product_id:row}/history",
    summary="Who changed a product",
    response_description="Changes, the newest first.",
    responses={200: {"headers": documented_headers({"Link": _NEXT})}, **_protected_read(ProductNotFound, NotTheOwner)},
)
async def show_history(
    product_id: RowId, query: Annotated[HistoryQuery, Query()], caller: CurrentCaller, read: Read, response: Response
) -> list[ChangeRead]:
    """For the owner and for admins. It goes on after the product was deleted, for the last owner."""
    before = read_cursor(query.cursor) if query.cursor else None
    changes, more = await read(lambda products: products.history(product_id, caller, before, query.limit))
    if more:
        following = {"limit": query.limit, "cursor": write_cursor(changes[-1].id)}
        response.headers["Link"] = link_header(f"/products/{product_id}/history", next=following)
    return [ChangeRead.model_validate(change) for change in changes]
