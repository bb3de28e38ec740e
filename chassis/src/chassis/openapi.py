"""The OpenAPI document, completed with what the framework does not know of: our problems, on every operation."""

from typing import Any

from chassis import problems
from chassis.problems import FRAMEWORK, Problem

_BODY_REFUSALS = (400, 413, 415)


def complete(document: dict[str, Any], log_in_at: str | None) -> dict[str, Any]:
    """Put the schema of a problem and the refusals that every operation shares into the document.

    :param log_in_at: the origin where tokens are had, if it is not this service
    """
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for framework_schema in ("HTTPValidationError", "ValidationError"):
        schemas.pop(framework_schema, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    for path in document["paths"].values():
        for operation in path.values():
            _complete_operation(operation)
    if log_in_at is not None:
        document["components"]["securitySchemes"]["Login"]["flows"]["password"]["tokenUrl"] = f"{log_in_at}/login"
    return document


def _complete_operation(operation: dict[str, Any]) -> None:
    responses: dict[str, Any] = operation["responses"]
    # Unknown query parameters are refused everywhere, so that there is no operation without a 422.
    statuses = (*_BODY_REFUSALS, 422) if "requestBody" in operation else (422,)
    for status in statuses:
        ours = problems.response(status, [FRAMEWORK[status]])
        if problems.MEDIA_TYPE not in responses.get(str(status), {}).get("content", {}):
            responses[str(status)] = ours
    for answer in responses.values():
        answer.setdefault("headers", {})["X-Request-ID"] = {
            "description": "The id of the request in every log; the client's own, if it sent a sane one.",
            "schema": {"type": "string"},
        }
    operation["responses"] = dict(sorted(responses.items()))
