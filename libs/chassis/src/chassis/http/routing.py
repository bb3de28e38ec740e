"""Routes as both services want them: bodies decoded by `chassis.http.bodies`, and unknown query parameters refused."""

from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, Query
from fastapi.dependencies.utils import get_dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from chassis.http import bodies


class QueryParameters(BaseModel):
    """The base of an operation's query parameters; one that it does not know is refused."""

    model_config = ConfigDict(extra="forbid")


class DecodedRequest(Request):
    """A request with its body read already; `json` is what `chassis.http.bodies` made of it."""

    def __init__(self, request: Request, decoded: Any) -> None:
        super().__init__(request.scope)
        self._body = b"" if decoded is bodies.EMPTY else b"decoded"
        # The framework reads the fields of an object's attributes too: it would take a Decimal for an empty body.
        self._json = float(decoded) if isinstance(decoded, Decimal) else decoded


class Route(APIRoute):
    """A route that has its body decoded before anything else is looked at: 413, 415 and 400 come first."""

    body_limit: ClassVar[int | None] = None
    """In bytes; None is what the settings say."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        # Every PATCH here sets the fields that are sent, and clears with null: a merge patch.
        accepted = (bodies.MERGE_PATCH, bodies.JSON) if "PATCH" in (self.methods or ()) else (bodies.JSON,)

        async def decode_and_handle(request: Request) -> Response:
            limit: int = self.body_limit or request.app.max_body_bytes
            return await handle(DecodedRequest(request, await bodies.read(request, limit, accepted)))

        return decode_and_handle


async def _no_query(_: Annotated[QueryParameters, Query()]) -> None:
    """Has no effect but the errors that the validation of its argument gives.

    A coroutine, because FastAPI runs a plain function in a shared pool of 40 threads: with all of them busy, every
    operation without query parameters would wait, `/health/live` included.
    """


class Router(APIRouter):
    """A router of such routes; `body_limit` holds for all of them.

    An operation without query parameters of its own gets a dependency that has none either. A mistake found there
    is kept with the other validation errors, so that a missing token is told first: 401 comes before 422.
    """

    def __init__(self, *, body_limit: int | None = None, **options: Any) -> None:
        # The framework's own limit answers in plain text where a request has a body that no one reads.
        route_class = type("Route", (Route,), {"body_limit": body_limit})
        super().__init__(route_class=route_class, **options)

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        # Without convertors: the framework would take `{id:name}` for the name of the parameter.
        _, plain_path, _ = compile_path(path)
        if not get_dependant(path=plain_path, call=endpoint).query_params:
            options["dependencies"] = [*(options.get("dependencies") or ()), Depends(_no_query)]
        super().add_api_route(path, endpoint, **options)
