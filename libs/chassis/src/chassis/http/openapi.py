"""Completes the OpenAPI document with what the framework does not know: our problem responses."""

import re
from typing import Any

from fastapi.routing import APIRoute

from chassis.errors import Invalid
from chassis.http import problems
from chassis.http.problems import FRAMEWORK_PROBLEMS, Problem

_BODY_ERRORS = (400, 408, 413, 415)
_EVERY_HEADER = {"X-Request-ID": "The id of the request in all logs: the client's own, if it sent a well-formed one."}

_BEARER_SCHEME = {"type": "http", "scheme": "bearer", "description": "An access token that you already have."}


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
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete_operation(operation)
            _name_request_bodies(operation, schemas)
            _place_examples(operation, path, schemas)
    for schema in schemas.values():
        _order_examples(schema)
        _describe_defaults(schema)
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    others = document["components"].pop("securitySchemes", {})
    login = others.pop("Login", None)
    if login is not None:
        if login_origin is not None:
            login["flows"]["password"]["tokenUrl"] = f"{login_origin}/login"
        # Swagger UI moves the focus to the last scheme: the username.
        document["components"]["securitySchemes"] = {"Bearer": _BEARER_SCHEME, **others, "Login": login}
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
        if parameter["in"] == "query" and not parameter["required"]:
            parameter["allowEmptyValue"] = True
    # Generated clients and linters distinguish a public operation from one whose security was forgotten.
    security = operation.setdefault("security", [])
    if {"Login": []} in security:
        security.insert(0, {"Bearer": []})
    responses: dict[str, Any] = operation["responses"]
    # Every operation rejects unknown query parameters, so each has a 422.
    statuses = (*_BODY_ERRORS, 422) if "requestBody" in operation else (422,)
    for status in statuses:
        code, detail = FRAMEWORK_PROBLEMS[status]
        response = problems.openapi_response(status, [(code, detail)])
        own = responses.get(str(status), {"content": {}})
        # The framework's own 422 has no examples.
        content = {media_type: each for media_type, each in own["content"].items() if "examples" in each}
        examples = content.get(problems.MEDIA_TYPE, {}).get("examples", {})
        if code in examples:
            continue
        if content:
            response["description"] += f"\n\n{own['description']}"
            response["content"][problems.MEDIA_TYPE]["examples"] |= examples
            response["content"] = content | response["content"]
        responses[str(status)] = response
    for answer in responses.values():
        answer.setdefault("headers", {}).update(problems.documented_headers(_EVERY_HEADER))
    operation["responses"] = dict(sorted(responses.items()))


def _name_request_bodies(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Move inline models to the components, because generated clients name their classes after those."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if "properties" in content["schema"]:
            name = content["schema"]["title"]
            schemas[name] = content["schema"]
            content["schema"] = {"$ref": f"#/components/schemas/{name}"}


def _describe_defaults(schema: dict[str, Any]) -> None:
    """Move the defaults of fields to their descriptions: openapi-typescript requires a field with a default."""
    for field in schema.get("properties", {}).values():
        default = field.pop("default", None)
        if default is not None and "const" not in field:
            field["description"] = f"{field.get('description', '')} Default: `{default}`.".lstrip()


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
            error = {"pointer": f"/{schema['required'][0]}", "detail": "This is required"}
    for answer in operation["responses"].values():
        for code, example in answer.get("content", {}).get(problems.MEDIA_TYPE, {}).get("examples", {}).items():
            example["value"]["instance"] = instance
            if code == Invalid.code:
                example["value"]["errors"] = [error]
