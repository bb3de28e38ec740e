"""Routes that check the caller, then decode bodies, and reject unknown and repeated query parameters."""

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

from fastapi import APIRouter, Query
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive

from chassis.http import bodies, openapi
from chassis.http.limits import Slots
from chassis.http.query_parameters import QueryParameters, Repeated


class _QueryParams(QueryParams):
    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a parameter, or all of them if it was repeated, where Starlette returns the last one."""
        values = self.getlist(key)
        return Repeated(values) if len(values) > 1 else super().get(key, default)


class _AnyQuery(BaseModel):
    model_config = ConfigDict(extra="ignore")


AnyQuery = Annotated[_AnyQuery, Query()]
"""The parameter of an operation that ignores the query."""


class _Request(Request):
    """A request whose repeated query parameters `QueryParameters` recognises."""

    def __init__(self, request: Request, receive: Receive) -> None:
        super().__init__(request.scope, receive)
        self._query_params = _QueryParams(request.scope["query_string"])


class _DecodedRequest(_Request):
    """A request whose body has been read and decoded already."""

    def __init__(self, request: Request, decoded: Any) -> None:
        super().__init__(request, request.receive)
        self._body = b"" if decoded is bodies.EMPTY else b"decoded"
        # The framework also accepts attributes of an object as fields: it would treat a Decimal as an empty body.
        self._json = float(decoded) if isinstance(decoded, Decimal) else decoded


async def _no_query(_: Annotated[QueryParameters, Query()]) -> None:
    """Only validates its argument.

    A coroutine, because FastAPI runs plain functions in a shared pool of 40 threads. If all of them were busy, every
    operation without query parameters would wait, including `/health/live`.
    """


_NO_QUERY = get_dependant(path="", call=_no_query)


@runtime_checkable
class Guard(Protocol):
    """A dependency that decides by the headers of a request whether its body is read at all."""

    async def admit(self, connection: HTTPConnection) -> None:
        """Raise a domain error to refuse the request."""


def _guards(dependant: Dependant) -> Iterator[Guard]:
    """The guards among the dependencies of an operation, each after those that it depends on."""
    for each in dependant.dependencies:
        yield from _guards(each)
        call: object = each.call
        if isinstance(call, Guard):
            yield call


class Route(APIRoute):
    """A route that runs its guards, then decodes its body, then validates the request.

    So errors come in this order: 401 and 503; 413, 415 and 400; 422. Nobody can make the service read a body without a
    token where one is needed.

    A request with a query to an operation without query parameters gets a dependency that rejects it. Its errors are
    collected with the other validation errors, so that 401 comes before 422. Requests without a query save the time.
    """

    body_limit: ClassVar[int | None] = None
    """In bytes; None for the limit in the settings."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        without_query = with_query = super().get_route_handler()
        if not self.dependant.query_params:
            dependant = self.dependant
            self.dependant = replace(dependant, dependencies=[_NO_QUERY, *dependant.dependencies])
            with_query = super().get_route_handler()
            self.dependant = dependant
        accepted = bodies.PATCHES if "PATCH" in (self.methods or ()) else (bodies.JSON,)
        guards = list(dict.fromkeys(_guards(self.dependant)))
        slots = Slots()

        async def decode_and_handle(request: Request) -> Response:
            with slots.taken(request.app.max_concurrent_requests, request.receive) as receive:
                request = _Request(request, receive)
                handle = with_query if request.scope["query_string"] else without_query
                for guard in guards:
                    await guard.admit(request)
                if self.body_field is None:
                    return await handle(request)
                limit: int = self.body_limit or request.app.max_body_bytes
                return await handle(_DecodedRequest(request, await bodies.read(request, limit, accepted)))

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
