"""`chassis.http.openapi`: the errors and schemas that it adds to the document."""

import json
from typing import Annotated, Any

import httpx
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from chassis import errors
from chassis.http.problems import MEDIA_TYPE, documented
from chassis.http.routing import Router
from testkit.library import make_app
from testkit.library_api import BookNotFound, InvalidBadge, MissingBadge, OnLoan, books


def document(app: FastAPI) -> dict[str, Any]:
    return json.loads(json.dumps(app.openapi()))  # type: ignore[no-any-return]


def test_documented_errors_have_an_example_each(app: FastAPI) -> None:
    responses = document(app)["paths"]["/books"]["post"]["responses"]
    assert set(responses) == {"201", "400", "401", "408", "409", "413", "415", "422"}
    unauthenticated = responses["401"]["content"][MEDIA_TYPE]["examples"]
    assert set(unauthenticated) == {"missing-badge", "invalid-badge"}
    assert unauthenticated["invalid-badge"]["value"]["detail"] == InvalidBadge.detail
    assert MissingBadge.detail in responses["401"]["description"]
    assert responses["409"]["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_documented_groups_errors_by_status() -> None:
    grouped = documented(BookNotFound, OnLoan, InvalidBadge, MissingBadge)
    assert set(grouped) == {404, 409, 401}
    assert set(grouped[401]["content"][MEDIA_TYPE]["examples"]) == {"invalid-badge", "missing-badge"}


def test_every_operation_documents_its_common_errors(app: FastAPI) -> None:
    for path, operations in document(app)["paths"].items():
        for method, operation in operations.items():
            expected = {"422", "400", "408", "413", "415"} if "requestBody" in operation else {"422"}
            assert set(operation["responses"]) & {"400", "408", "413", "415", "422"} == expected, (method, path)
            for status, answer in operation["responses"].items():
                assert "X-Request-ID" in answer["headers"]
                if int(status) >= 400:
                    assert list(answer["content"]) == [MEDIA_TYPE]


def test_the_schema_of_problem_replaces_the_frameworks_own(app: FastAPI) -> None:
    schemas = document(app)["components"]["schemas"]
    assert {"Problem", "FieldProblem"} <= set(schemas)
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    assert list(schemas) == sorted(schemas)


def test_problem_examples_match_the_schema(app: FastAPI) -> None:
    whole = document(app)
    schema = {"$ref": "#/components/schemas/Problem", "components": whole["components"]}
    count = 0
    for operations in whole["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                for example in answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).values():
                    Draft202012Validator(schema).validate(example["value"])
                    assert example["value"]["status"] == int(status)
                    count += 1
    assert count > 10


async def test_real_problems_match_the_schema(app: FastAPI, client: httpx.AsyncClient) -> None:
    schema = {"$ref": "#/components/schemas/Problem", "components": document(app)["components"]}
    for answer in (await client.get("/nothing"), await client.get("/books?colour=red")):
        Draft202012Validator(schema).validate(answer.json())


def test_a_422_of_an_operation_is_documented_beside_the_validation_errors() -> None:
    class TooManyPages(errors.Invalid):
        code = "too-many-pages"
        detail = "The book has too many pages."
        errors = (errors.FieldError("/pages", "At most 900"),)

    routes = Router()

    @routes.post("/atlases", responses=documented(TooManyPages))
    async def create_atlas() -> None: ...

    response = document(make_app(routes))["paths"]["/atlases"]["post"]["responses"]["422"]
    examples = response["content"][MEDIA_TYPE]["examples"]
    assert list(examples) == ["validation-failed", "too-many-pages"]
    assert examples["too-many-pages"]["value"]["errors"] == [{"pointer": "/pages", "detail": "At most 900"}]
    assert TooManyPages.detail in response["description"]
    assert errors.Invalid.detail in response["description"]


def test_a_protected_operation_accepts_a_login_or_a_token_and_a_public_one_needs_neither() -> None:
    whole = document(make_app(books()))
    # The last scheme has the focus in Swagger UI.
    assert list(whole["components"]["securitySchemes"]) == ["Bearer", "Login"]
    security = [operation["security"] for operations in whole["paths"].values() for operation in operations.values()]
    assert [{"Bearer": []}, {"Login": []}] in security
    assert [] in security


def test_a_default_is_described_because_generators_require_fields_with_defaults() -> None:
    class Atlas(BaseModel):
        scale: Annotated[str, Field(description="A fraction.")] = "1:1"

    routes = Router()

    @routes.post("/atlases")
    async def create_atlas(atlas: Atlas) -> None: ...

    schema = document(make_app(routes))["components"]["schemas"]["Atlas"]
    assert schema["properties"]["scale"]["description"] == "A fraction. Default: `1:1`."
    assert "default" not in schema["properties"]["scale"]
    assert "required" not in schema


def test_the_document_names_the_token_url() -> None:
    own = document(make_app(books()))["components"]["securitySchemes"]["Login"]["flows"]["password"]
    assert own["tokenUrl"] == "login"
    foreign = document(make_app(books(), login_origin="http://users.test:1"))
    assert (
        foreign["components"]["securitySchemes"]["Login"]["flows"]["password"]["tokenUrl"]
        == "http://users.test:1/login"
    )


def test_a_document_without_protected_operations_names_no_token_url() -> None:
    assert "securitySchemes" not in document(make_app(login_origin="http://users.test:1"))["components"]


def test_documentation_pages_are_not_in_the_document(app: FastAPI) -> None:
    assert not [path for path in document(app)["paths"] if path.startswith(("/docs", "/redoc"))]
