"""Routes that decode bodies with `chassis.http.bodies` and reject unknown query parameters."""

from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Query
from fastapi.dependencies.utils import get_dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from starlette.requests import Request
from starlette.responses import Response

from chassis.http import bodies, openapi


def _flag(value: object) -> object:
    flag = {"true": True, "1": True, "false": False, "0": False}.get(value.lower()) if isinstance(value, str) else value
    if flag is None:
        # Pydantic alone would accept "y", "off" and more.
        raise ValueError("Must be true or false")
    return flag


Flag = Annotated[bool, BeforeValidator(_flag)]
"""A boolean in a query: `true`, `false`, `1` or `0`, in any case."""


class QueryParameters(BaseModel):
    """The base of an operation's query parameters.

    Unknown parameters are rejected. An empty parameter counts as absent, because a form sends all of its fields.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, parameters: Any) -> Any:
        if not isinstance(parameters, dict):
            return parameters
        return {name: value for name, value in parameters.items() if value != "" or name not in cls.model_fields}


class DecodedRequest(Request):
    """A request whose body has been read and decoded already."""

    def __init__(self, request: Request, decoded: Any) -> None:
        super().__init__(request.scope)
        self._body = b"" if decoded is bodies.EMPTY else b"decoded"
        # The framework also accepts attributes of an object as fields: it would treat a Decimal as an empty body.
        self._json = float(decoded) if isinstance(decoded, Decimal) else decoded


async def _no_query(_: Annotated[QueryParameters, Query()]) -> None:
    """Only validates its argument.

    A coroutine, because FastAPI runs plain functions in a shared pool of 40 threads. If all of them were busy, every
    operation without query parameters would wait, including `/health/live`.
    """


_NO_QUERY = get_dependant(path="", call=_no_query)


class Route(APIRoute):
    """A route that decodes its body before anything else, so that 413, 415 and 400 come first.

    An operation without query parameters gets a dependency that rejects all of them. Its errors are collected with the
    other validation errors, so that 401 comes before 422.
    """

    body_limit: ClassVar[int | None] = None
    """In bytes; None for the limit in the settings."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        if not self.dependant.query_params:
            self.dependant.dependencies.insert(0, _NO_QUERY)
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        # Every PATCH is a merge patch: it sets the fields that are sent, and null clears a field.
        accepted = (bodies.MERGE_PATCH, bodies.JSON) if "PATCH" in (self.methods or ()) else (bodies.JSON,)

        async def decode_and_handle(request: Request) -> Response:
            limit: int = self.body_limit or request.app.max_body_bytes
            return await handle(DecodedRequest(request, await bodies.read(request, limit, accepted)))

        return decode_and_handle


class Router(APIRouter):
    """A router of such routes.

    :param body_limit: applies to all of them
    :param route: their class
    """

    def __init__(self, *, body_limit: int | None = None, route: type[Route] = Route, **options: Any) -> None:
        # The framework's own limit responds in plain text if a request has an unexpected body.
        route_class = type("Route", (route,), {"body_limit": body_limit})
        super().__init__(route_class=route_class, generate_unique_id_function=openapi.operation_id, **options)
