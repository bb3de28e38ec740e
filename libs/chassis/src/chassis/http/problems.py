"""Maps all errors to HTTP: each to a status and an RFC 9457 `application/problem+json` body.

Domain errors are mapped by category, and the same classes produce the OpenAPI documentation (`documented`). Errors of
the framework (unknown path, wrong method, malformed or invalid body) get the same form. A response never contains the
text of an exception, a statement or an internal name.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from chassis import errors
from chassis.errors import DomainError, Draining
from chassis.http import bodies, etags
from chassis.http.middleware import quoted_path
from chassis.validation import error_message, json_pointer

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

# The names of these two in the standard library differ between the supported Python versions.
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}

# Code and detail for errors that the framework raises with only a status.
FRAMEWORK_PROBLEMS = {
    400: ("malformed-body", "The body is malformed."),
    404: ("not-found", "There is no resource at this URL."),
    405: ("method-not-allowed", "The method is not supported here; see the Allow header."),
    408: ("body-timeout", "The body did not arrive in time."),
    413: ("body-too-large", "The body is too large."),
    415: ("unsupported-media-type", "The media type of the body is not supported."),
    422: (errors.Invalid.code, errors.Invalid.detail),
    500: ("internal-error", "An internal error occurred. Please include the request id if you report it."),
}

_MAX_ERRORS = 100  # in one response

# The header that a status has, and its description.
_HEADERS = {
    401: {"WWW-Authenticate": '`Bearer`, with `error="invalid_token"` if a token was sent.'},
    412: {"ETag": "The current version."},
    429: {"Retry-After": "Seconds until the next attempt is allowed."},
    503: {"Retry-After": "Seconds to wait before a retry."},
}


class FieldProblem(BaseModel):
    """An error in one part of the request."""

    pointer: str | None = Field(default=None, description="JSON Pointer (RFC 6901) into the body.", examples=["/name"])
    parameter: str | None = Field(default=None, description="The name of a path or query parameter, or of a header.")
    detail: str


class Problem(BaseModel):
    """An error, as in RFC 9457. Programs should check `code`."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="`about:blank`: the status is the type of the problem.")
    title: str = Field(description="The name of the status.")
    status: int
    detail: str = Field(description="An explanation for people.")
    instance: str = Field(description="The path of the request.")
    code: str = Field(description="A stable error code for programs.")
    request_id: str = Field(description="The same id as in X-Request-ID.")
    errors: list[FieldProblem] | None = Field(
        default=None, description="With status 422: all errors in fields and parameters."
    )


def respond(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    fields: Sequence[FieldProblem] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """A problem response for this request. The request log shows its code on the console."""
    request.scope["state"]["code"] = code
    problem = Problem(
        type="about:blank",
        title=_title(status),
        status=status,
        detail=detail,
        instance=quoted_path(request.scope),
        code=code,
        request_id=request.scope["state"]["request_id"],
        errors=list(fields) if fields is not None else None,
    )
    return Response(problem.model_dump_json(exclude_none=True), status, headers, MEDIA_TYPE)


def internal_error(request: Request) -> Response:
    """The response to an unexpected exception. It reveals nothing about the exception."""
    return respond(request, 500, *FRAMEWORK_PROBLEMS[500])


def service_stopping(request: Request) -> Response:
    """The response to a request that is cancelled because the service stops."""
    retry_after = str(math.ceil(Draining.retry_after.total_seconds()))
    return respond(request, 503, Draining.code, Draining.detail, headers={"Retry-After": retry_after})


def rejected_preflight(request: Request, detail: str, headers: dict[str, str]) -> Response:
    """The response to a CORS preflight that the policy does not allow."""
    return respond(request, 400, "preflight-refused", detail, headers=headers)


def install(app: FastAPI) -> None:
    """Register the error handlers: every error becomes a problem response."""
    for expected in (DomainError, RequestValidationError, HTTPException):
        app.add_exception_handler(expected, response_to)


async def response_to(request: Request, error: Exception) -> Response:
    """The response to an error that the application expects: to any of those that `install` registers."""
    if isinstance(error, DomainError):
        return _domain_error(request, error)
    if isinstance(error, RequestValidationError):
        return _validation_error(request, error)
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler is registered for these three classes
    return _http_exception(request, error)


def status_of(error: type[DomainError]) -> int:
    """The HTTP status of the error's category."""
    return next(status for category, status in STATUS_OF.items() if issubclass(error, category))


def documented(*classes: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of an operation that may raise these errors."""
    by_status: defaultdict[int | str, list[tuple[str, str]]] = defaultdict(list)
    for each in classes:
        by_status[status_of(each)].append((each.code, each.detail))
    responses = {status: openapi_response(int(status), cases) for status, cases in by_status.items()}
    for each in classes:
        if each.retry_after is not None:
            responses[status_of(each)]["headers"] |= documented_headers({"Retry-After": _HEADERS[503]["Retry-After"]})
        if issubclass(each, errors.Invalid) and each.errors:
            example = responses[status_of(each)]["content"][MEDIA_TYPE]["examples"][each.code]["value"]
            example["errors"] = [problem.model_dump(exclude_none=True) for problem in _from_field_errors(each.errors)]
    return responses


def documented_headers(descriptions: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The `headers` of an OpenAPI response object."""
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in descriptions.items()}


def openapi_response(status: int, cases: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The OpenAPI response object for problems with this status.

    :param cases: the codes and details that may occur
    """
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
        example["errors"] = [{"pointer": "/name", "detail": "This is required"}]
    return example


def _domain_error(request: Request, error: DomainError) -> Response:
    headers: dict[str, str] = {}
    fields = None
    if isinstance(error, errors.Unauthenticated):
        parameters = f' error="{error.bearer_error}"' if error.bearer_error else ""
        headers["WWW-Authenticate"] = f"{error.scheme}{parameters}"
    if isinstance(error, errors.PreconditionFailed):
        headers["ETag"] = etags.format_etag(error.version)
    if error.retry_after is not None:
        # In whole seconds, rounded up so that a client never retries too early.
        headers["Retry-After"] = str(math.ceil(error.retry_after.total_seconds()))
    if isinstance(error, errors.Invalid):
        fields = _from_field_errors(error.errors)
    return respond(request, status_of(type(error)), error.code, error.detail, fields=fields, headers=headers)


def _from_field_errors(field_errors: Iterable[errors.FieldError]) -> list[FieldProblem]:
    return [FieldProblem(pointer=each.pointer, parameter=each.parameter, detail=each.detail) for each in field_errors]


def _http_exception(request: Request, error: HTTPException) -> Response:
    status = error.status_code
    code, detail = FRAMEWORK_PROBLEMS.get(status, (f"http-{status}", _title(status)))
    headers = dict(error.headers or {})
    methods = _methods(request) if status in (405, 415) else set()
    if "PATCH" in methods:
        # RFC 5789, sections 2.2 and 3.1. An OPTIONS request is a 405.
        headers["Accept-Patch"] = ", ".join(bodies.PATCHES)
    if status == 405:
        # The framework only lists the methods of the first route with this path.
        headers["Allow"] = ", ".join(sorted(methods))
    elif status in (400, 408, 413, 415):
        # Only our own code raises these, with a detail of its own.
        detail = error.detail
    return respond(request, status, code, detail, headers=headers)


def _validation_error(request: Request, error: RequestValidationError) -> Response:
    fields = [_field_problem(each) for each in error.errors()[:_MAX_ERRORS]]
    return respond(request, 422, *FRAMEWORK_PROBLEMS[422], fields=fields)


def _field_problem(error: Mapping[str, Any]) -> FieldProblem:
    where, *path = error["loc"]
    detail = error_message(error)
    if where == "body":
        if not path and error["type"] == "missing":
            detail = "A body is required"
        return FieldProblem(pointer=json_pointer(path), detail=detail)
    if error["type"] == "extra_forbidden":
        detail = "Unknown parameter"
    # The second part would be the place among the values of a repeated parameter.
    return FieldProblem(parameter=str(path[0]), detail=detail)


def _methods(request: Request) -> set[str]:
    methods: set[str] = set()
    # Behind a proxy that adds a prefix, the path includes it and the routes don't.
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    for route in iter_route_contexts(request.app.routes):
        if route.path and route.methods and compile_path(route.path)[0].match(path):
            methods |= route.methods
    return methods | {"HEAD"} if "GET" in methods else methods
