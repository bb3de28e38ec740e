"""The catalogue: public reads, and writes of whom the user service vouches for."""

from typing import Annotated, Any

from fastapi import Query, Response

from chassis.errors import READ_ERRORS, WRITE_ERRORS, DomainError, InvalidToken, NotAuthenticated
from chassis.paging import RowId, link_header
from chassis.problems import documented, documented_headers
from chassis.routing import Router
from product_service.api.dependencies import CurrentCaller, Read, Write
from product_service.errors import AuthUnavailable, NotTheOwner, ProductNotFound, SkuTaken
from product_service.listing import ProductQuery
from product_service.schemas import ProductCreate, ProductPatch, ProductRead

router = Router(prefix="/products", tags=["products"])


def _public(*errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    return documented(*errors, *READ_ERRORS)


def _protected(*errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    return documented(NotAuthenticated, InvalidToken, *errors, AuthUnavailable, *WRITE_ERRORS)


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
    page = await read(lambda products: products.page(query))
    following = {"next": query.next(page.products[-1])} if page.more else {}
    response.headers["Link"] = link_header("/products", first=query.first(), **following)
    if page.total is not None:
        response.headers["X-Total-Count"] = str(page.total)
    return [ProductRead.of(product) for product in page.products]


@router.get(
    "/{product_id}",
    summary="Show a product",
    response_description="The product.",
    responses=_public(ProductNotFound),
)
async def show_product(product_id: RowId, read: Read) -> ProductRead:
    return ProductRead.of(await read(lambda products: products.get(product_id)))


@router.post(
    "",
    status_code=201,
    summary="Create a product",
    response_description="The new product; it belongs to the caller.",
    responses={
        201: {"headers": documented_headers({"Location": "The address of the product."})},
        **_protected(SkuTaken),
    },
)
async def create_product(draft: ProductCreate, caller: CurrentCaller, write: Write, response: Response) -> ProductRead:
    product = await write(lambda products: products.create(draft, owner=caller))
    response.headers["Location"] = f"/products/{product.id}"
    return ProductRead.of(product)


@router.put(
    "/{product_id}",
    summary="Change a product",
    response_description="The product as it is now.",
    responses=_protected(ProductNotFound, NotTheOwner, SkuTaken),
)
async def change_product(product_id: RowId, patch: ProductPatch, caller: CurrentCaller, write: Write) -> ProductRead:
    """The fields sent are set, those left out stay as they are; null clears `description`, `sku` and `category`."""
    return ProductRead.of(await write(lambda products: products.change(product_id, patch, caller)))


@router.delete(
    "/{product_id}",
    status_code=204,
    summary="Delete a product",
    response_description="It is gone.",
    responses=_protected(ProductNotFound, NotTheOwner),
)
async def delete_product(product_id: RowId, caller: CurrentCaller, write: Write) -> Response:
    await write(lambda products: products.delete(product_id, caller))
    return Response(status_code=204)
