"""The OpenAPI documents of both services, and what the tests look up in them."""

from collections.abc import Iterator
from typing import Any

import jsonschema

import product_service.main
import user_service.main

PROBLEM = "application/problem+json"
DOCUMENTS: dict[str, dict[str, Any]] = {
    "user-service": user_service.main.documented_app().openapi(),
    "product-service": product_service.main.documented_app().openapi(),
}
PUBLIC = {
    *("POST /register", "POST /login", "POST /refresh", "POST /revoke", "POST /validate-token"),
    *("GET /products", "GET /products/{product_id}", "GET /health", "GET /health/live", "GET /health/ready"),
}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation, by method and path such as `GET /products`."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def examples(content: dict[str, Any], document: dict[str, Any]) -> list[Any]:
    """The examples of a media type, or else those of its schema."""
    if "example" in content:
        return [content["example"]]
    if "examples" in content:
        return [each["value"] for each in content["examples"].values()]
    schema = content["schema"]
    if schema.get("type") == "array":
        return [[example] for example in examples({"schema": schema["items"]}, document)]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    constants = {name: each["const"] for name, each in schema["properties"].items() if "const" in each}
    found: list[Any] = schema.get("examples", [constants])
    return found


def validate(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """Assert that the schema is valid, and the value valid by it."""
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(whole).validate(value)
