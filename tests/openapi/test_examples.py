"""The examples in the OpenAPI documents."""

import json
import re
from typing import Any

from testkit.processes import Services
from tests.openapi.documents import DOCUMENTS, PROBLEM, PUBLIC, examples, operations, validate
from user_service.schemas import CREDENTIALS_EXAMPLE


def test_every_body_example_is_accepted(services: Services) -> None:
    # The last four change or delete an account of the examples; the first three of them are undone.
    last = ["POST /me/password", "PATCH /users/{user_id}", "POST /me/delete", "DELETE /me"]
    username, password = str(CREDENTIALS_EXAMPLE["username"]), str(CREDENTIALS_EXAMPLE["password"])
    changed = "a new horse, a new battery"
    restore = {
        last[0]: ("POST", "/me/password", {"current_password": changed, "new_password": password}),
        last[1]: ("PATCH", "/users/1", {"is_active": True}),
        last[2]: ("POST", "/register", CREDENTIALS_EXAMPLE),
    }
    # By its nature, each of these works once.
    once = {
        "POST /register": "username-taken",
        "POST /users": "username-taken",
        "POST /me/password": "wrong-password",
        "POST /logout": "invalid-token",
        "POST /me/delete": "invalid-token",
        "DELETE /me": "invalid-token",
    }
    services.sign_up()  # Account 1, which the example of PATCH /users/{user_id} is about.
    admin = services.sign_up()
    services.users.sql("UPDATE users SET is_admin = true WHERE id = :id", id=admin.id)
    todo = [
        (service, DOCUMENTS[service.name], name, operation)
        for service in (services.users, services.products)
        for name, operation in operations(DOCUMENTS[service.name])
        if "requestBody" in operation
    ]
    todo.sort(key=lambda each: last.index(each[2]) if each[2] in last else -1)
    sent = []
    for service, document, name, operation in todo:
        method, path = name.split(" ")
        for parameter in operation.get("parameters", ()):
            path = path.replace(f"{{{parameter['name']}}}", str(parameter.get("example")))
        bearer = {}
        if "/users" in path:
            bearer = admin.bearer
        elif name not in PUBLIC:
            bearer = {"Authorization": f"Bearer {services.log_in(username, password)}"}
        # The last example of If-Match, any version, works more than once.
        headers = {
            parameter["name"]: list(parameter["examples"].values())[-1]["value"]
            for parameter in operation.get("parameters", ())
            if "examples" in parameter
        }
        for media_type, content in operation["requestBody"]["content"].items():
            for example in examples(content, document):
                with service.client(headers=bearer) as client:
                    text = example if isinstance(example, str) else json.dumps(example)
                    body = {"data": example} if "form" in media_type else {"content": text}
                    headers |= {"Content-Type": media_type}
                    answer = client.request(method, path, headers=headers, **body)
                    again = client.request(method, path, headers=headers, **body)
                    if name in restore:
                        client.request(*restore[name][:2], json=restore[name][2])
                if name == "POST /refresh":
                    # The example token belongs to no session.
                    assert answer.json()["code"] == "session-revoked"
                else:
                    assert answer.is_success, f"{name}: {answer.text}"
                    assert again.is_success or again.json()["code"] == once.get(name), f"{name}: {again.text}"
                    described = operation["responses"][str(answer.status_code)].get("content", {})
                    if described:
                        validate(answer.json(), described["application/json"]["schema"], document)
                sent.append(f"{name} {media_type}")
    assert sorted(sent) == [
        "DELETE /me application/json",
        "PATCH /products/{product_id} application/json",
        "PATCH /users/{user_id} application/json",
        "POST /introspect application/x-www-form-urlencoded",
        "POST /login application/x-www-form-urlencoded",
        "POST /logout application/json",
        "POST /me/delete application/json",
        "POST /me/password application/json",
        "POST /products application/json",
        "POST /products/import application/x-ndjson",
        "POST /products/import text/csv",
        "POST /products/{product_id}/stock application/json",
        "POST /refresh application/json",
        "POST /register application/json",
        "POST /revoke application/x-www-form-urlencoded",
        "POST /users application/json",
        "POST /users/{user_id}/password application/json",
        "POST /validate-token application/json",
        "PUT /products/{product_id} application/json",
    ]


def test_if_match_offers_the_version_of_a_new_product_and_then_any() -> None:
    offered = {
        name: [each["value"] for each in parameter["examples"].values()]
        for name, operation in operations(DOCUMENTS["product-service"])
        for parameter in operation.get("parameters", ())
        if parameter["name"] == "If-Match"
    }
    changes = ("PUT /products/{product_id}", "PATCH /products/{product_id}", "DELETE /products/{product_id}")
    assert offered == {name: ['"1"', "*"] for name in (*changes, "POST /products/{product_id}/stock")}


def test_swagger_ui_fills_the_login_form_with_the_example() -> None:
    # Swagger UI fills a form from the examples of its fields, and invents a value for a field without one.
    body = DOCUMENTS["user-service"]["paths"]["/login"]["post"]["requestBody"]["content"]
    form = body["application/x-www-form-urlencoded"]
    schema = DOCUMENTS["user-service"]["components"]["schemas"]["Credentials"]
    filled_in = {name: field["examples"][0] for name, field in schema["properties"].items()}
    assert {name: value for name, value in filled_in.items() if value} == {**form["example"], "grant_type": "password"}
    validate(filled_in, form["schema"], DOCUMENTS["user-service"])


def test_every_example_is_valid_and_in_the_order_of_its_schema(document: dict[str, Any]) -> None:
    checked = 0
    for name, operation in operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in (*bodies, *operation["responses"].values()):
            for content in body.get("content", {}).values():
                found = examples(content, document)
                assert found, name
                for example in found:
                    validate(example, content["schema"], document)
                    checked += 1
        for parameter in operation.get("parameters", ()):
            if "example" in parameter or parameter["required"]:
                validate(parameter["example"], parameter["schema"], document)
            elif "default" in parameter["schema"]:
                validate(parameter["schema"]["default"], parameter["schema"], document)
    for schema in document["components"]["schemas"].values():
        for example in schema.get("examples", ()):
            validate(example, schema, document)
            assert list(example) == [name for name in schema["properties"] if name in example]
    assert checked > 40


def test_every_problem_example_matches_its_operation(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        instance = re.sub(r"\{.*?\}", "1", name.partition(" ")[2])
        for status, answer in operation["responses"].items():
            for code, example in answer.get("content", {}).get(PROBLEM, {}).get("examples", {}).items():
                value = example["value"]
                assert (value["status"], value["code"], value["instance"]) == (int(status), code, instance)
                (error,) = value.get("errors", [None])
                assert (error is None) == (status != "422")
                if code == "validation-failed":
                    assert ("pointer" in error) == ("requestBody" in operation)
    users = DOCUMENTS["user-service"]["paths"]["/login"]["post"]["responses"]["422"]["content"][PROBLEM]
    assert users["examples"]["validation-failed"]["value"]["errors"][0]["pointer"] == "/username"
