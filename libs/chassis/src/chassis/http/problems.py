"""The one mapping of errors to HTTP: a status and an RFC 9457 `application/problem+json` body for each.

Domain errors are mapped by their category, and the same classes document themselves in OpenAPI (`documented`).
What the framework refuses by itself (unknown path, wrong method, undecodable or invalid body) is put in the same
form. An answer never holds an exception's text, a statement or an internal name.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from chassis import errors
from chassis.errors import DomainError
from chassis.http import etags
from chassis.validation import json_pointer, sentence

MEDIA_TYPE = "application/problem+json"

STATUS_OF: dict[type[DomainError], int] = {
    errors.Invalid: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.Throttled: 429,
    errors.Unavailable: 503,
}

# The standard library's names for these two changed between the versions of Python that are supported.
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}

# What the framework raises as a bare status, and what a client is told of it.
FRAMEWORK = {
    400: ("malformed-body", "The body cannot be decoded."),
    404: ("not-found", "There is nothing at this address."),
    405: ("method-not-allowed", "This address does not answer this method; see the Allow header."),
    413: ("body-too-large", "The body is larger than this address accepts."),
    415: ("unsupported-media-type", "The body is of a media type that this address does not read."),
    422: (errors.Invalid.code, errors.Invalid.detail),
    500: ("internal-error", "Something went wrong on our side. The request id helps us to find out what."),
}


_MOST_ERRORS = 100  # in one answer

# The header that comes with a status, and what it says.
_HEADERS = {
    401: {"WWW-Authenticate": '`Bearer`, with `error="invalid_token"` where a token was sent.'},
    412: {"ETag": "The current version."},
    429: {"Retry-After": "Seconds after which the next try is let through."},
    503: {"Retry-After": "Seconds after which another try is worth it."},
}


class FieldProblem(BaseModel):
    """What is wrong with one part of the request."""

    pointer: str | None = Field(default=None, description="JSON Pointer (RFC 6901) into the body.", examples=["/name"])
    parameter: str | None = Field(default=None, description="The name of a path or query parameter, or of a header.")
    detail: str


class Problem(BaseModel):
    """An error, in the form of RFC 9457; `code` is what a program should look at."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="`about:blank`: the status says what kind of problem it is.")
    title: str = Field(description="The name of the status.")
    status: int
    detail: str = Field(description="A plain sentence for people.")
    instance: str = Field(description="The path of the request.")
    code: str = Field(description="A stable name for programs.")
    request_id: str = Field(description="The same as in X-Request-ID.")
    errors: list[FieldProblem] | None = Field(default=None, description="With status 422: each thing to mend.")


def respond(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    fields: Sequence[FieldProblem] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """A problem response for this request."""
    problem = Problem(
        type="about:blank",
        title=_title(status),
        status=status,
        detail=detail,
        instance=quote(request.scope["path"], safe="/:@!$&'()*+,;=~-._"),
        code=code,
        request_id=request.scope["state"]["request_id"],
        errors=list(fields) if fields is not None else None,
    )
    return Response(problem.model_dump_json(exclude_none=True), status, headers, MEDIA_TYPE)


def internal_error(request: Request) -> Response:
    """The answer to an exception that nothing expected; it says nothing about it."""
    return respond(request, 500, *FRAMEWORK[500])


def cut_off(request: Request) -> Response:
    """The answer to a request that the service had to leave undone, because it was told to stop."""
    return respond(request, 503, "draining", "The service is stopping; please try again.", headers={"Retry-After": "2"})


def refused_preflight(request: Request, detail: str, headers: dict[str, str]) -> Response:
    """The answer to a browser that asks for what the CORS policy does not allow."""
    return respond(request, 400, "preflight-refused", detail, headers=headers)


def install(app: FastAPI) -> None:
    """Answer every error of the application with a problem."""
    app.add_exception_handler(DomainError, _domain_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)


def status_of(error: type[DomainError]) -> int:
    """The status of the error's category."""
    return next(status for category, status in STATUS_OF.items() if issubclass(error, category))


def documented(*classes: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that may end with these errors."""
    by_status: defaultdict[int | str, list[tuple[str, str]]] = defaultdict(list)
    for each in classes:
        by_status[status_of(each)].append((each.code, each.detail))
    return {status: response(int(status), cases) for status, cases in by_status.items()}


def documented_headers(descriptions: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The `headers` of an OpenAPI response object."""
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in descriptions.items()}


def response(status: int, cases: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The OpenAPI response object of a problem with this status; `cases` are codes and details."""
    cases = list(cases)
    return {
        "description": "\n\n".join(f"`{code}`: {detail}" for code, detail in cases),
        "headers": documented_headers(_HEADERS.get(status, {})),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {code: {"value": _example(status, code, detail)} for code, detail in cases},
            }
        },
    }


def _title(status: int) -> str:
    return TITLES.get(status) or HTTPStatus(status).phrase


def _example(status: int, code: str, detail: str) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": "about:blank",
        "title": _title(status),
        "status": status,
        "detail": detail,
        "instance": "/the/path",
        "code": code,
        "request_id": "5f0c3a8e9d7b4c1f8a2e6d0b9c7f1e34",
    }
    if status == 422:
        example["errors"] = [{"pointer": "/name", "detail": "Field required"}]
    return example


async def _domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DomainError)  # noqa: S101 - the handler is registered for this class alone
    headers: dict[str, str] = {}
    fields = None
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = f'Bearer error="{error.bearer_error}"' if error.bearer_error else "Bearer"
    if isinstance(error, errors.PreconditionFailed):
        headers["ETag"] = etags.format_etag(error.version)
    if error.retry_after is not None:
        # In whole seconds, and rounded up: a client that waits this long finds the door open.
        headers["Retry-After"] = str(math.ceil(error.retry_after.total_seconds()))
    if isinstance(error, errors.Invalid):
        fields = [
            FieldProblem(pointer=each.pointer, parameter=each.parameter, detail=each.detail) for each in error.errors
        ]
    return respond(request, status_of(type(error)), error.code, error.detail, fields=fields, headers=headers)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler is registered for this class alone
    status = error.status_code
    code, detail = FRAMEWORK.get(status, (f"http-{status}", _title(status)))
    headers = dict(error.headers or {})
    if status == 405:
        # The framework names the methods of the first route that has this path only.
        headers = {"Allow": ", ".join(sorted(_methods(request)))}
    elif status in (400, 413, 415):
        # Only chassis.http.bodies raises these, with a sentence of its own.
        detail = error.detail
    return respond(request, status, code, detail, headers=headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the handler is registered for this class alone
    fields = [_field_problem(each["type"], each["loc"], each["msg"]) for each in error.errors()[:_MOST_ERRORS]]
    return respond(request, 422, *FRAMEWORK[422], fields=fields)


def _field_problem(kind: str, location: Sequence[int | str], message: str) -> FieldProblem:
    where, *path = location
    detail = sentence(kind, message)
    if where == "body":
        return FieldProblem(pointer=json_pointer(path), detail=detail)
    if kind == "extra_forbidden":
        detail = "There is no such parameter"
    return FieldProblem(parameter=".".join(str(part) for part in path), detail=detail)


def _methods(request: Request) -> set[str]:
    methods: set[str] = set()
    # Behind a proxy that adds a prefix, the path has it and the routes have not.
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    for route in iter_route_contexts(request.app.routes):
        if route.path and route.methods and compile_path(route.path)[0].match(path):
            methods |= route.methods
    return methods | {"HEAD"} if "GET" in methods else methods
