"""Routes that decode bodies with `chassis.http.bodies` and reject unknown query parameters."""

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
    """The base of an operation's query parameters; unknown ones are rejected."""

    model_config = ConfigDict(extra="forbid")


class DecodedRequest(Request):
    """A request whose body has been read and decoded already."""

    def __init__(self, request: Request, decoded: Any) -> None:
        super().__init__(request.scope)
        self._body = b"" if decoded is bodies.EMPTY else b"decoded"
        # The framework also accepts attributes of an object as fields: it would treat a Decimal as an empty body.
        self._json = float(decoded) if isinstance(decoded, Decimal) else decoded


class Route(APIRoute):
    """A route that decodes its body before anything else, so that 413, 415 and 400 come first."""

    body_limit: ClassVar[int | None] = None
    """In bytes; None for the limit in the settings."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        # Every PATCH is a merge patch: it sets the fields that are sent, and null clears a field.
        accepted = (bodies.MERGE_PATCH, bodies.JSON) if "PATCH" in (self.methods or ()) else (bodies.JSON,)

        async def decode_and_handle(request: Request) -> Response:
            limit: int = self.body_limit or request.app.max_body_bytes
            return await handle(DecodedRequest(request, await bodies.read(request, limit, accepted)))

        return decode_and_handle


async def _no_query(_: Annotated[QueryParameters, Query()]) -> None:
    """Only validates its argument.

    A coroutine, because FastAPI runs plain functions in a shared pool of 40 threads. If all of them were busy, every
    operation without query parameters would wait, including `/health/live`.
    """


class Router(APIRouter):
    """A router of such routes; `body_limit` applies to all of them.

    An operation without query parameters gets a dependency that rejects all of them. Its errors are collected with the
    other validation errors, so that 401 comes before 422.
    """

    def __init__(self, *, body_limit: int | None = None, **options: Any) -> None:
        # The framework's own limit responds in plain text if a request has an unexpected body.
        route_class = type("Route", (Route,), {"body_limit": body_limit})
        super().__init__(route_class=route_class, **options)

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        # Without convertors: the framework would read `{id:name}` as the name of the parameter.
        _, plain_path, _ = compile_path(path)
        if not get_dependant(path=plain_path, call=endpoint).query_params:
            options["dependencies"] = [*(options.get("dependencies") or ()), Depends(_no_query)]
        super().add_api_route(path, endpoint, **options)
