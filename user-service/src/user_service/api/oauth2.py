"""Token requests of OAuth2 (RFC 6749), as forms and as JSON, and the errors that OAuth2 clients expect."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.config import JsonDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from chassis.errors import DomainError, FieldError
from chassis.http import bodies, problems, routing
from user_service.errors import InvalidClient, InvalidCredentials, SessionRevoked, UnsupportedGrantType

M = TypeVar("M", bound=BaseModel)
OAuth2Error = Literal["invalid_request", "invalid_client", "invalid_grant", "unsupported_grant_type"]

_ERRORS: dict[str, OAuth2Error] = {
    InvalidClient.code: "invalid_client",
    InvalidCredentials.code: "invalid_grant",
    SessionRevoked.code: "invalid_grant",
    UnsupportedGrantType.code: "unsupported_grant_type",
}
"""The errors of RFC 6749, by the code of the problem; `invalid_request` for all others."""


class TokenProblem(problems.Problem):
    """An error in a form, as OAuth2 clients expect it (RFC 6749, section 5.2)."""

    model_config = ConfigDict(title="TokenProblem")

    error: OAuth2Error


class Route(routing.Route):
    """A route that responds to an error in a form as in RFC 6749, section 5.2: status 400, `error`, plain JSON.

    An unknown client is a 401, and is told how to authenticate.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_as_oauth2(request: Request) -> Response:
            try:
                return await handle(request)
            except (DomainError, RequestValidationError, HTTPException) as error:
                response = await problems.response_to(request, error)
                if bodies.content_type(request) != bodies.FORM or response.status_code not in (400, 401, 422):
                    return response
                return _oauth2_response(response)

        return handle_as_oauth2


def _oauth2_response(problem: Response) -> Response:
    members = problems.Problem.model_validate_json(bytes(problem.body)).model_dump()
    error = _ERRORS.get(members["code"], "invalid_request")
    headers = {}
    if error == "invalid_client":
        headers["WWW-Authenticate"] = problem.headers["WWW-Authenticate"]
    else:
        members |= {"status": 400, "title": "Bad Request"}
    body = TokenProblem(**members, error=error)
    return Response(body.model_dump_json(exclude_none=True), members["status"], headers, bodies.JSON)


def documented(path: str, *errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI response to a form with one of these errors."""
    response = problems.openapi_response(400, [(each.code, each.detail) for each in errors])
    examples = response["content"].pop(problems.MEDIA_TYPE)["examples"]
    for code, example in examples.items():
        example["value"] |= {"instance": path, "error": _ERRORS.get(code, "invalid_request")}
    description = f"In response to a form:\n\n{response['description']}"
    return {400: {"model": TokenProblem, "description": description, "content": {bodies.JSON: {"examples": examples}}}}


def documented_body(media_type: str, model: type[BaseModel], example: JsonDict) -> dict[str, Any]:
    """The OpenAPI request body of an operation that reads its own."""
    # Only one of the two media types: client generators fail on operations with both.
    content = {media_type: {"schema": model.model_json_schema(), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


async def read_form(request: Request, model: type[M]) -> M:
    """The body, which must be a form; raises RequestValidationError."""
    return _validated(request, await _read(request, (bodies.FORM,)), model)


async def read_grant(request: Request, grants: Mapping[str, type[M]]) -> M:
    """The token request in the body: a form or JSON. Raises UnsupportedGrantType, or RequestValidationError.

    :param grants: the models by grant type; the first is the one of a request without a grant type
    """
    body = await _read(request, (bodies.FORM, bodies.JSON))
    grant_type = body.get("grant_type") if isinstance(body, dict) else None
    if isinstance(grant_type, str) and grant_type not in grants:
        raise UnsupportedGrantType([FieldError("/grant_type", f"The grant type must be {' or '.join(grants)}")])
    default = next(iter(grants))
    return _validated(request, body, grants[grant_type if isinstance(grant_type, str) else default])


async def _read(request: Request, accepted: tuple[str, ...]) -> Any:
    body = await bodies.read(request, request.app.max_body_bytes, accepted)
    if body is bodies.EMPTY:
        return {}
    if bodies.content_type(request) == bodies.FORM:
        # RFC 6749, section 3.2: a parameter without a value counts as omitted.
        return {name: value for name, value in body.items() if value}
    return body


def _validated(request: Request, body: Any, model: type[M]) -> M:
    """The body as this model; raises RequestValidationError. Unknown parameters of a form are ignored (section 3.2)."""
    if bodies.content_type(request) == bodies.FORM:
        body = {name: value for name, value in body.items() if name in model.model_fields}
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        ) from None
