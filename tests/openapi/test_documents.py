"""The OpenAPI documents: statuses, headers, security, names and schemas."""

import re
from typing import Any

import jsonschema
import pytest

from chassis.http.paging import write_cursor
from tests.openapi.documents import DOCUMENTS, PROBLEM, PUBLIC, operations, validate

STATUSES = {
    "POST /register": {201, 400, 403, 409, 408, 413, 415, 422, 429, 503},
    "GET /me": {200, 401, 422, 503},
    "GET /me/export": {200, 401, 422, 503},
    "POST /me/password": {204, 400, 401, 403, 408, 413, 415, 422, 429, 503},
    "DELETE /me": {204, 400, 401, 403, 409, 408, 413, 415, 422, 429, 503},
    "POST /me/delete": {204, 400, 401, 403, 409, 408, 413, 415, 422, 429, 503},
    "POST /login": {200, 400, 401, 408, 413, 415, 422, 429, 503},
    "POST /refresh": {200, 400, 401, 408, 413, 415, 422, 429, 503},
    "POST /revoke": {200, 400, 408, 413, 415, 422, 429, 503},
    "POST /logout": {204, 400, 401, 408, 413, 415, 422, 429, 503},
    "POST /logout-all": {204, 401, 422, 503},
    "GET /sessions": {200, 401, 422, 503},
    "DELETE /sessions/{session_id}": {204, 401, 404, 422, 503},
    "POST /validate-token": {200, 400, 401, 408, 413, 415, 422, 503},
    "POST /introspect": {200, 400, 401, 408, 413, 415, 422, 503},
    "GET /forward-auth": {200, 401, 422, 503},
    "GET /users": {200, 401, 403, 422, 503},
    "GET /users/{user_id}": {200, 401, 403, 404, 422, 503},
    "POST /users": {201, 400, 401, 403, 409, 408, 413, 415, 422, 503},
    "DELETE /users/{user_id}": {204, 401, 403, 404, 409, 422, 503},
    "POST /users/{user_id}/password": {204, 400, 401, 403, 404, 408, 413, 415, 422, 503},
    "GET /users/{user_id}/sessions": {200, 401, 403, 404, 422, 503},
    "DELETE /users/{user_id}/sessions": {204, 401, 403, 404, 422, 503},
    "DELETE /users/{user_id}/sessions/{session_id}": {204, 401, 403, 404, 422, 503},
    "PATCH /users/{user_id}": {200, 400, 401, 403, 404, 409, 408, 413, 415, 422, 503},
    "GET /products": {200, 422, 503},
    "GET /products/{product_id}": {200, 304, 404, 422, 503},
    "POST /products": {201, 400, 401, 403, 409, 408, 413, 415, 422, 429, 503},
    "PUT /products/{product_id}": {200, 400, 401, 403, 404, 409, 412, 408, 413, 415, 422, 429, 503},
    "PATCH /products/{product_id}": {200, 400, 401, 403, 404, 409, 412, 408, 413, 415, 422, 429, 503},
    "DELETE /products/{product_id}": {204, 401, 403, 404, 412, 422, 429, 503},
    "POST /products/{product_id}/stock": {200, 400, 401, 403, 404, 409, 412, 408, 413, 415, 422, 429, 503},
    "POST /products/import": {200, 400, 401, 408, 409, 413, 415, 422, 429, 503},
    "GET /products/export": {200, 401, 422, 503},
    "GET /products/{product_id}/history": {200, 401, 403, 404, 422, 503},
    "GET /health": {200, 422},
    "GET /health/live": {200, 422},
    "GET /health/ready": {200, 422, 503},
}
HEADERS = {201: "Location", 304: "ETag", 401: "WWW-Authenticate", 412: "ETag", 429: "Retry-After", 503: "Retry-After"}
# An error in a form is an OAuth2 error, as plain JSON.
OAUTH2 = ("POST /login", "POST /refresh", "POST /revoke", "POST /introspect")
EMPTY = (("POST /revoke", "200"), ("GET /forward-auth", "200"))
# The JSON Schema keywords that the documents use; any other is a constraint that clients would ignore.
KEYWORDS = {
    *("type", "enum", "const", "anyOf", "$ref", "title", "description", "default", "examples", "format", "pattern"),
    *("properties", "required", "additionalProperties", "items", "minLength", "maxLength", "not", "readOnly"),
    *("minItems", "maxItems", "uniqueItems", "contains"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}


def test_every_operation_documents_its_statuses() -> None:
    found = {name: set(map(int, each["responses"])) for one in DOCUMENTS.values() for name, each in operations(one)}
    assert found == STATUSES


def test_every_response_documents_its_headers_and_every_error_is_a_problem(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            header = HEADERS.get(int(status), "X-Request-ID")
            assert {header, "X-Request-ID"} <= set(answer["headers"]), f"{name} {status}"
            empty = status in ("204", "304") or (name, status) in EMPTY
            expected = [] if empty else [PROBLEM if int(status) >= 400 else "application/json"]
            if (name, status) == ("GET /products/export", "200"):
                expected = ["text/csv", "application/x-ndjson"]
            if name in OAUTH2 and status == "400":
                expected = ["application/json", PROBLEM]
            assert list(answer.get("content", {})) == expected, f"{name} {status}"
    page = DOCUMENTS["product-service"]["paths"]["/products"]["get"]["responses"]["200"]
    assert {"Link", "X-Total-Count"} <= set(page["headers"])


def test_exactly_the_protected_operations_require_the_login(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        expected: list[dict[str, list[str]]] = [] if name in PUBLIC else [{"Bearer": []}, {"Login": []}]
        if name == "POST /introspect":
            expected = [{"Service": []}]
        # A refresh token in the body replaces the access token; without SERVICE_KEYS, introspection needs no key.
        optional = name in {"POST /logout", "POST /introspect"}
        assert operation["security"] == ([*expected, {}] if optional else expected), name


def test_the_service_key_is_an_optional_header() -> None:
    (parameter,) = DOCUMENTS["user-service"]["paths"]["/validate-token"]["post"]["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("X-Service-Key", "header", False)
    assert "SERVICE_KEYS" in parameter["description"]


def test_names_are_those_that_generators_can_use(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert not [name for name in schemas if not re.fullmatch("[A-Z][A-Za-z]+", name)]
    # Generators name classes after the titles.
    assert len({schema["title"] for schema in schemas.values()}) == len(schemas)
    assert {"TokenResponse", "Credentials"} <= set(schemas) or {"ProductChange", "ChangedFields"} <= set(schemas)
    for name, operation in operations(document):
        # Generators fail on operations with two content types; that of files is a choice of the client.
        content = operation.get("requestBody", {"content": {None: None}})["content"]
        assert len(content) == (2 if name == "POST /products/import" else 1), name


def test_roles_and_cursors_are_as_narrow_as_the_service() -> None:
    document = DOCUMENTS["user-service"]
    roles = document["components"]["schemas"]["UserPatch"]["properties"]["roles"]
    for accepted in (["user"], ["user", "admin"], ["admin", "user"]):
        validate(accepted, roles, document)
    for refused in ([], ["admin"], ["user", "user"], ["root"], ["user", "admin", "admin"]):
        with pytest.raises(jsonschema.ValidationError):
            validate(refused, roles, document)
    for each in DOCUMENTS.values():
        for _, operation in operations(each):
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "cursor":
                    validate(write_cursor(1), parameter["schema"], each)
                    with pytest.raises(jsonschema.ValidationError):
                        validate("", parameter["schema"], each)


def test_operations_have_summaries_and_ids_for_generated_clients(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    for name, operation in operations(document):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
        assert not operation["operationId"].endswith(("_get", "_post", "_put", "_delete")), name
        assert re.fullmatch(r"[A-Z][a-z].+", operation["summary"])
        for answer in operation["responses"].values():
            assert answer["description"] not in ("", "Successful Response"), name


def test_tags_and_paths_are_in_the_order_a_newcomer_needs() -> None:
    tags = {}
    for name, document in DOCUMENTS.items():
        tags[name] = list(dict.fromkeys(tag for _, operation in operations(document) for tag in operation["tags"]))
        assert [tag["name"] for tag in document["tags"]] == tags[name]
    assert tags == {
        "user-service": ["accounts", "sessions", "tokens", "administration", "health"],
        "product-service": ["products", "health"],
    }
    assert next(iter(DOCUMENTS["user-service"]["paths"])) == "/register"
    assert all("Authorize" in document["info"]["description"] for document in DOCUMENTS.values())


def test_schemas_use_only_known_keywords(document: dict[str, Any]) -> None:
    def check(schema: dict[str, Any]) -> int:
        assert set(schema) <= KEYWORDS
        inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
        inner += [schema["items"]] if "items" in schema else []
        return 1 + sum(map(check, inner))

    checked = sum(map(check, document["components"]["schemas"].values()))
    for _, operation in operations(document):
        checked += sum(check(parameter["schema"]) for parameter in operation.get("parameters", ()))
        for body in (operation.get("requestBody", {}), *operation["responses"].values()):
            checked += sum(check(content["schema"]) for content in body.get("content", {}).values())
    assert checked > 50
