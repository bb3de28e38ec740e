"""Completes the OpenAPI document with what the framework does not know: our problem responses."""

import re
from typing import Any

from fastapi.routing import APIRoute

from chassis.http import bodies, problems
from chassis.http.problems import FRAMEWORK_PROBLEMS, Problem

_BODY_ERRORS = (400, 413, 415)
_EVERY_HEADER = {"X-Request-ID": "The id of the request in all logs: the client's own, if it sent a well-formed one."}


def operation_id(route: APIRoute) -> str:
    """The name of the function, such as `list_products`. Generated clients name their methods after it."""
    return route.name


def complete(document: dict[str, Any], login_origin: str | None) -> dict[str, Any]:
    """Add the schema of problems and the errors that all operations share to the document.

    :param login_origin: the origin that issues tokens, if it is another service
    """
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for framework_schema in ("HTTPValidationError", "ValidationError"):
        schemas.pop(framework_schema, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    for schema in schemas.values():
        _order_examples(schema)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method == "patch" and "requestBody" in operation:
                content = operation["requestBody"]["content"]
                content[bodies.MERGE_PATCH] = content[bodies.JSON]
            _complete_operation(operation)
            _place_examples(operation, path, schemas)
    login = document["components"].get("securitySchemes", {}).get("Login")
    if login_origin is not None and login is not None:
        login["flows"]["password"]["tokenUrl"] = f"{login_origin}/login"
    return document


def _complete_operation(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        # A parameter may be omitted, but paths, queries and headers can't contain a null.
        choices = [each for each in parameter["schema"].pop("anyOf", ()) if each != {"type": "null"}]
        if len(choices) == 1:
            parameter["schema"] |= choices[0]
        elif choices:
            parameter["schema"]["anyOf"] = choices
        if "examples" in parameter["schema"]:
            # Swagger UI prefills the form only from `example`.
            parameter["example"] = parameter["schema"].pop("examples")[0]
    responses: dict[str, Any] = operation["responses"]
    # Every operation rejects unknown query parameters, so each has a 422.
    statuses = (*_BODY_ERRORS, 422) if "requestBody" in operation else (422,)
    for status in statuses:
        ours = problems.openapi_response(status, [FRAMEWORK_PROBLEMS[status]])
        if problems.MEDIA_TYPE not in responses.get(str(status), {}).get("content", {}):
            responses[str(status)] = ours
    for answer in responses.values():
        answer.setdefault("headers", {}).update(problems.documented_headers(_EVERY_HEADER))
    operation["responses"] = dict(sorted(responses.items()))


def _order_examples(schema: dict[str, Any]) -> None:
    """Order the fields of examples like the properties; Pydantic sorts them by name."""
    order = list(schema.get("properties", ()))
    for example in schema.get("examples", ()):
        fields = sorted(example.items(), key=lambda field: order.index(field[0]))
        example.clear()
        example.update(fields)


def _place_examples(operation: dict[str, Any], path: str, schemas: dict[str, Any]) -> None:
    """Adapt the examples of problems to this operation: its path, and one of its fields or parameters."""
    instance = re.sub(r"\{[^}]+\}", "1", path)
    error = {"parameter": "colour", "detail": "Unknown parameter"}
    for body in operation.get("requestBody", {}).get("content", {}).values():
        schema = schemas.get(body["schema"].get("$ref", "").rpartition("/")[2], body["schema"])
        error = {"pointer": "/colour", "detail": "Unknown field"}
        if schema.get("required"):
            error = {"pointer": f"/{schema['required'][0]}", "detail": "Field required"}
    for answer in operation["responses"].values():
        for example in answer.get("content", {}).get(problems.MEDIA_TYPE, {}).get("examples", {}).values():
            example["value"]["instance"] = instance
            if "errors" in example["value"]:
                example["value"]["errors"] = [error]
