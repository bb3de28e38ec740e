"""The OpenAPI document, completed with what the framework does not know of: our problems, on every operation."""

import re
from typing import Any

from fastapi.routing import APIRoute

from chassis.http import bodies, problems
from chassis.http.problems import FRAMEWORK, Problem

_BODY_REFUSALS = (400, 413, 415)
_EVERY_HEADER = {"X-Request-ID": "The id of the request in every log; the client's own, if it sent a sane one."}


def operation_id(route: APIRoute) -> str:
    """The name of the function: `list_products`. Generated clients name their methods after it."""
    return route.name


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
    for schema in schemas.values():
        _order_examples(schema)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method == "patch":
                content = operation["requestBody"]["content"]
                content[bodies.MERGE_PATCH] = content[bodies.JSON]
            _complete_operation(operation)
            _place_examples(operation, path, schemas)
    if log_in_at is not None:
        document["components"]["securitySchemes"]["Login"]["flows"]["password"]["tokenUrl"] = f"{log_in_at}/login"
    return document


def _complete_operation(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        # A parameter may be left out; a null is nothing that a path, a query or a header could hold.
        choices = [each for each in parameter["schema"].pop("anyOf", ()) if each != {"type": "null"}]
        if len(choices) == 1:
            parameter["schema"] |= choices[0]
        elif choices:
            parameter["schema"]["anyOf"] = choices
        if "examples" in parameter["schema"]:
            # Swagger UI fills in nothing else.
            parameter["example"] = parameter["schema"].pop("examples")[0]
    responses: dict[str, Any] = operation["responses"]
    # Unknown query parameters are refused everywhere, so that there is no operation without a 422.
    statuses = (*_BODY_REFUSALS, 422) if "requestBody" in operation else (422,)
    for status in statuses:
        ours = problems.response(status, [FRAMEWORK[status]])
        if problems.MEDIA_TYPE not in responses.get(str(status), {}).get("content", {}):
            responses[str(status)] = ours
    for answer in responses.values():
        answer.setdefault("headers", {}).update(problems.documented_headers(_EVERY_HEADER))
    operation["responses"] = dict(sorted(responses.items()))


def _order_examples(schema: dict[str, Any]) -> None:
    """Give an example's fields the order of the properties; Pydantic sorts them by name."""
    order = list(schema.get("properties", ()))
    for example in schema.get("examples", ()):
        fields = sorted(example.items(), key=lambda field: order.index(field[0]))
        example.clear()
        example.update(fields)


def _place_examples(operation: dict[str, Any], path: str, schemas: dict[str, Any]) -> None:
    """Let the examples of problems speak of this operation: its path, and a field or parameter that it may have."""
    instance = re.sub(r"\{[^}]+\}", "1", path)
    mistake = {"parameter": "colour", "detail": "There is no such parameter"}
    for body in operation.get("requestBody", {}).get("content", {}).values():
        schema = schemas.get(body["schema"].get("$ref", "").rpartition("/")[2], body["schema"])
        mistake = {"pointer": "/colour", "detail": "There is no such field"}
        if schema.get("required"):
            mistake = {"pointer": f"/{schema['required'][0]}", "detail": "Field required"}
    for answer in operation["responses"].values():
        for example in answer.get("content", {}).get(problems.MEDIA_TYPE, {}).get("examples", {}).values():
            example["value"]["instance"] = instance
            if "errors" in example["value"]:
                example["value"]["errors"] = [mistake]
