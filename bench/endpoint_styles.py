"""Compares two ways for an endpoint to get its service: an annotated parameter, and the enclosing function.

    python3 dev.py bench endpoint-styles

It uses no database: it measures the CPU time that the framework and the chassis take for one request, in alternating
rounds of one process.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar

from fastapi import Depends, FastAPI, Request, Response
from pydantic import BaseModel

from chassis import logs
from chassis.http import application
from chassis.http.etags import IfNoneMatch
from chassis.http.routing import Router
from chassis.ids import RowId
from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    service: ClassVar[str] = "bench"
    port: int = 1


class Product(BaseModel):
    id: int
    name: str
    price: str


class Products:
    async def get(self, product_id: int) -> Product:
        return Product(id=product_id, name="Lamp", price="19.99")


async def _products(request: Request) -> Products:
    products: Products = request.app.state.products
    return products


ProductsService = Annotated[Products, Depends(_products)]


def annotated_parameter(_: Products) -> Router:
    routes = Router(prefix="/products")

    @routes.get("/{product_id}")
    async def show(product_id: RowId, known: IfNoneMatch, products: ProductsService, response: Response) -> Product:
        response.headers["ETag"] = '"1"' if not known(1) else '"2"'
        return await products.get(product_id)

    return routes


def enclosing_function(products: Products) -> Router:
    routes = Router(prefix="/products")

    @routes.get("/{product_id}")
    async def show(product_id: RowId, known: IfNoneMatch, response: Response) -> Product:
        response.headers["ETag"] = '"1"' if not known(1) else '"2"'
        return await products.get(product_id)

    return routes


def without_the_header(products: Products) -> Router:
    routes = Router(prefix="/products")

    @routes.get("/{product_id}")
    async def show(product_id: RowId, response: Response) -> Product:
        response.headers["ETag"] = '"1"'
        return await products.get(product_id)

    return routes


@asynccontextmanager
async def _no_lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield


STYLES = {
    "annotated parameter": annotated_parameter,
    "enclosing function": enclosing_function,
    "enclosing function, one header dependency less": without_the_header,
}


def make_app(style: str) -> FastAPI:
    products = Products()
    app = application.build(
        Settings(_env_file=None),
        title="Bench",
        version="1",
        description="",
        lifespan=_no_lifespan,
        routers=[STYLES[style](products)],
    )
    app.state.products = products
    return app


async def request(app: FastAPI, times: int) -> None:
    """Request one product this many times, without a socket."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(f"status {message['status']}")

    for _ in range(times):
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/products/7",
            "raw_path": b"/products/7",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "http_version": "1.1",
            "scheme": "http",
            "state": {},
            "server": ("localhost", 80),
            "client": ("127.0.0.1", 1),
            "asgi": {"version": "3.0"},
        }
        await app(scope, receive, send)


async def measure(rounds: int, requests: int) -> dict[str, list[float]]:
    """The CPU time of one request in microseconds, by style and round."""
    apps = {style: make_app(style) for style in STYLES}
    taken: dict[str, list[float]] = {style: [] for style in STYLES}
    for app in apps.values():
        await request(app, requests)
    for _ in range(rounds):
        for style, app in apps.items():
            started = time.process_time()
            await request(app, requests)
            taken[style].append((time.process_time() - started) / requests * 1e6)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="dev.py bench endpoint-styles", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--requests", type=int, default=500, help="in each round")
    arguments = parser.parse_args()
    logs.configure("bench", "WARNING", "json")
    for style, taken in asyncio.run(measure(arguments.rounds, arguments.requests)).items():
        print(f"{style:50} {statistics.median(taken):5.0f} µs  (fastest round {min(taken):.0f})")


if __name__ == "__main__":
    main()
