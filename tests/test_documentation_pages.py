"""The documentation pages and the documents behind them, as far as they can be held without a browser."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import jsonschema
import pytest

import product_service.main
import user_service.main
from product_service.settings import Settings as ProductSettings
from testkit.processes import Service, Services
from user_service.schemas import CREDENTIALS_EXAMPLE
from user_service.settings import Settings as UserSettings

pytestmark = pytest.mark.xdist_group("documentation-pages")

PROBLEM = "application/problem+json"
DOCUMENTS: dict[str, dict[str, Any]] = {
    "user-service": user_service.main.documented_app().openapi(),
    "product-service": product_service.main.documented_app().openapi(),
}
STATUSES = {
    "POST /register": {201, 400, 409, 413, 415, 422, 429, 503},
    "GET /me": {200, 401, 422, 503},
    "POST /me/password": {204, 400, 401, 403, 413, 415, 422, 429, 503},
    "DELETE /me": {204, 400, 401, 403, 409, 413, 415, 422, 429, 503},
    "POST /login": {200, 400, 401, 413, 415, 422, 429, 503},
    "POST /refresh": {200, 400, 401, 413, 415, 422, 429, 503},
    "POST /logout": {204, 401, 422, 503},
    "POST /logout-all": {204, 401, 422, 503},
    "GET /sessions": {200, 401, 422, 503},
    "DELETE /sessions/{session_id}": {204, 401, 404, 422, 503},
    "POST /validate-token": {200, 400, 401, 413, 415, 422, 503},
    "GET /users": {200, 401, 403, 422, 503},
    "GET /users/{user_id}": {200, 401, 403, 404, 422, 503},
    "PATCH /users/{user_id}": {200, 400, 401, 403, 404, 409, 413, 415, 422, 503},
    "GET /products": {200, 422, 503},
    "GET /products/{product_id}": {200, 304, 404, 422, 503},
    "POST /products": {201, 400, 401, 409, 413, 415, 422, 503},
    "PUT /products/{product_id}": {200, 400, 401, 403, 404, 409, 412, 413, 415, 422, 503},
    "PATCH /products/{product_id}": {200, 400, 401, 403, 404, 409, 412, 413, 415, 422, 503},
    "DELETE /products/{product_id}": {204, 401, 403, 404, 412, 422, 503},
    "POST /products/{product_id}/stock": {200, 400, 401, 403, 404, 409, 412, 413, 415, 422, 503},
    "POST /products/import": {200, 400, 401, 413, 415, 422, 503},
    "GET /products/export": {200, 401, 422, 503},
    "GET /products/{product_id}/history": {200, 401, 403, 404, 422, 503},
    "GET /health": {200, 422},
    "GET /health/live": {200, 422},
    "GET /health/ready": {200, 422, 503},
}
HEADERS = {201: "Location", 304: "ETag", 401: "WWW-Authenticate", 412: "ETag", 429: "Retry-After", 503: "Retry-After"}
PUBLIC = {
    *("POST /register", "POST /login", "POST /refresh", "POST /validate-token"),
    *("GET /products", "GET /products/{product_id}", "GET /health", "GET /health/live", "GET /health/ready"),
}
# The keywords of JSON Schema that the documents have a use for; anything else is a constraint lost in translation.
KEYWORDS = {
    *("type", "enum", "const", "anyOf", "$ref", "title", "description", "default", "examples", "format", "pattern"),
    *("properties", "required", "additionalProperties", "items", "minLength", "maxLength", "maxItems", "not"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
# Swagger UI asks for a token with these, even where the client's id and secret are empty.
AS_SWAGGER_UI_AUTHORIZES = {"X-Requested-With": "XMLHttpRequest", "Authorization": "Basic Og=="}


class Page(HTMLParser):
    """What a page loads, and the text of its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline = ""
        self._in_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "spec-url")]
        self.inline += "".join(value or "" for name, value in attrs if name.startswith("on"))

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.inline += data


@pytest.fixture(params=["user-service", "product-service"])
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    return DOCUMENTS[request.param]


@pytest.fixture(params=["user-service", "product-service"])
def service(request: pytest.FixtureRequest, services: Services) -> Service:
    return services.users if request.param == "user-service" else services.products


@pytest.fixture
async def users_by_default(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The user service with nothing set: a development machine as it comes."""
    app = user_service.main.create_app(UserSettings(_env_file=None, data_dir=tmp_path))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8001") as client:
        yield client


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation by method and path: `GET /products`."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def examples(content: dict[str, Any], document: dict[str, Any]) -> list[Any]:
    """The examples of a media type: its own, or those of its schema."""
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
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(whole).validate(value)


def directives(policy: str) -> dict[str, list[str]]:
    return {name: sources for name, *sources in (directive.split() for directive in policy.split(";"))}


# The pages


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_loads_nothing_but_what_the_service_itself_serves(service: Service, path: str) -> None:
    with service.client() as client:
        page = Page(client.get(path).text)
        assert len(page.addresses) >= 3
        for address in page.addresses:
            assert not re.match(r"[a-z]+:|/", address), "an address that leads away, or past the prefix of a proxy"
            answer = client.get(urljoin(path, address))
            assert answer.status_code == 200, address
            assert answer.content


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/assets/start.js", "/docs/assets/redoc.standalone.js"])
def test_the_policy_of_a_page_lets_no_foreign_and_no_inline_script_run(service: Service, path: str) -> None:
    with service.client() as client:
        answer = client.get(path)
    policy = directives(answer.headers["content-security-policy"])
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == ["'self'"]
    assert policy["img-src"] == ["'self'", "data:"]
    assert policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.headers["content-type"].startswith("text/html"):
        assert Page(answer.text).inline.strip() == ""


def test_redoc_asks_no_foreign_host_for_the_logo_of_its_maker(service: Service) -> None:
    with service.client() as client:
        script = client.get("/docs/assets/redoc.standalone.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert len(script.content) > 500_000
    assert b"cdn.redoc" not in script.content


def test_swagger_ui_leaves_no_token_behind_in_the_browser(service: Service) -> None:
    with service.client() as client:
        start = client.get("/docs/assets/start.js").text
    assert "SwaggerUIBundle(" in start
    assert "persistAuthorization" not in start


# "Authorize"


def test_the_page_of_the_user_service_asks_it_for_a_token_and_the_other_page_asks_it_across_origins(
    services: Services,
) -> None:
    found = []
    for service in (services.users, services.products):
        with service.client() as client:
            scheme = client.get("/openapi.json").json()["components"]["securitySchemes"]["Login"]
            policy = directives(client.get("/docs").headers["content-security-policy"])
        assert scheme["type"] == "oauth2"
        found.append((scheme["flows"]["password"]["tokenUrl"], policy["connect-src"]))
    assert found == [("login", ["'self'"]), (f"{services.users.url}/login", ["'self'", services.users.url])]


async def test_the_user_service_may_be_reached_under_a_path_of_its_origin(tmp_path: Path) -> None:
    settings = ProductSettings(
        _env_file=None, data_dir=tmp_path, user_service_public_url="https://shop.example/accounts/"
    )
    app = product_service.main.create_app(settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://shop.example") as client:
        document = (await client.get("/openapi.json")).json()
        policy = directives((await client.get("/docs")).headers["content-security-policy"])
    flow = document["components"]["securitySchemes"]["Login"]["flows"]["password"]
    assert flow["tokenUrl"] == "https://shop.example/accounts/login"
    assert policy["connect-src"] == ["'self'", "https://shop.example"]


@pytest.mark.parametrize("origin", ["http://localhost:8002", "http://127.0.0.1:8002"])
async def test_authorize_on_the_other_page_passes_the_preflight_on_a_development_machine(
    users_by_default: httpx.AsyncClient, origin: str
) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-requested-with",
    }
    preflight = await users_by_default.options("/login", headers={"Origin": origin, **asked})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    allowed = {name.strip().lower() for name in preflight.headers["access-control-allow-headers"].split(",")}
    assert allowed >= {"authorization", "x-requested-with"}


async def test_a_page_of_any_other_origin_does_not_pass_the_preflight(users_by_default: httpx.AsyncClient) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = await users_by_default.options("/login", headers={"Origin": "http://localhost:8003", **asked})
    assert "access-control-allow-origin" not in preflight.headers


def test_authorize_gets_a_token_that_the_page_may_read(services: Services) -> None:
    account = services.sign_up()
    origin = {"Origin": services.products.url}
    form = {"grant_type": "password", "username": account.username, "password": account.password}
    with services.users.client(headers={**origin, **AS_SWAGGER_UI_AUTHORIZES}) as client:
        answer = client.post("/login", data=form)
    assert answer.status_code == 200
    assert answer.json()["token_type"] == "bearer"
    assert answer.headers["access-control-allow-origin"] == services.products.url


# The examples


def test_every_example_of_a_body_is_accepted_as_it_stands(services: Services) -> None:
    # The last three change or end the account of the examples; between them it is brought back to what they say.
    last = ["POST /me/password", "PATCH /users/{user_id}", "DELETE /me"]
    username, password = str(CREDENTIALS_EXAMPLE["username"]), str(CREDENTIALS_EXAMPLE["password"])
    changed = "a new horse, a new battery"
    back = {
        last[0]: ("POST", "/me/password", {"current_password": changed, "new_password": password}),
        last[1]: ("PATCH", "/users/1", {"is_active": True}),
    }
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
        for media_type, content in operation["requestBody"]["content"].items():
            for example in examples(content, document):
                with service.client(headers=bearer) as client:
                    text = example if isinstance(example, str) else json.dumps(example)
                    body = {"data": example} if "form" in media_type else {"content": text}
                    answer = client.request(method, path, headers={"Content-Type": media_type}, **body)
                    if name in back:
                        client.request(*back[name][:2], json=back[name][2])
                if name == "POST /refresh":
                    # An example of a token is nobody's.
                    assert answer.json()["code"] == "session-revoked"
                else:
                    assert answer.is_success, f"{name}: {answer.text}"
                    described = operation["responses"][str(answer.status_code)].get("content", {})
                    if described:
                        validate(answer.json(), described["application/json"]["schema"], document)
                sent.append(f"{name} {media_type}")
    assert sorted(sent) == [
        "DELETE /me application/json",
        "PATCH /products/{product_id} application/json",
        "PATCH /products/{product_id} application/merge-patch+json",
        "PATCH /users/{user_id} application/json",
        "PATCH /users/{user_id} application/merge-patch+json",
        "POST /login application/json",
        "POST /login application/x-www-form-urlencoded",
        "POST /me/password application/json",
        "POST /products application/json",
        "POST /products/import application/x-ndjson",
        "POST /products/import text/csv",
        "POST /products/{product_id}/stock application/json",
        "POST /refresh application/json",
        "POST /register application/json",
        "POST /validate-token application/json",
        "PUT /products/{product_id} application/json",
    ]


def test_the_fields_of_the_login_form_are_filled_in_with_what_the_example_says() -> None:
    # Swagger UI fills a form in from the examples of its fields, and makes up a value where there is none.
    body = DOCUMENTS["user-service"]["paths"]["/login"]["post"]["requestBody"]["content"]
    form = body["application/x-www-form-urlencoded"]
    filled_in = {name: field["examples"][0] for name, field in form["schema"]["properties"].items()}
    assert {name: value for name, value in filled_in.items() if value} == {**form["example"], "grant_type": "password"}
    validate(filled_in, form["schema"], DOCUMENTS["user-service"])


def test_every_example_is_what_its_schema_says_and_in_the_order_of_its_fields(document: dict[str, Any]) -> None:
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


def test_the_example_of_a_problem_is_about_the_operation_that_it_stands_at(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        instance = re.sub(r"\{.*?\}", "1", name.partition(" ")[2])
        for status, answer in operation["responses"].items():
            for code, example in answer.get("content", {}).get(PROBLEM, {}).get("examples", {}).items():
                value = example["value"]
                assert (value["status"], value["code"], value["instance"]) == (int(status), code, instance)
                (mistake,) = value.get("errors", [None])
                assert (mistake is None) == (status != "422")
                assert mistake is None or ("pointer" in mistake) == ("requestBody" in operation)
    users = DOCUMENTS["user-service"]["paths"]["/login"]["post"]["responses"]["422"]["content"][PROBLEM]
    assert users["examples"]["validation-failed"]["value"]["errors"][0]["pointer"] == "/username"


# The documents


def test_every_operation_documents_every_status_that_it_answers() -> None:
    found = {name: set(map(int, each["responses"])) for one in DOCUMENTS.values() for name, each in operations(one)}
    assert found == STATUSES


def test_every_answer_documents_its_headers_and_every_refusal_is_a_problem(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            header = HEADERS.get(int(status), "X-Request-ID")
            assert {header, "X-Request-ID"} <= set(answer["headers"]), f"{name} {status}"
            expected = [] if status in ("204", "304") else [PROBLEM if int(status) >= 400 else "application/json"]
            if (name, status) == ("GET /products/export", "200"):
                expected = ["text/csv", "application/x-ndjson"]
            assert list(answer.get("content", {})) == expected, f"{name} {status}"
    page = DOCUMENTS["product-service"]["paths"]["/products"]["get"]["responses"]["200"]
    assert {"Link", "X-Total-Count"} <= set(page["headers"])


def test_every_protected_operation_asks_for_the_login_and_no_other_does(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        # A service key is asked for where SERVICE_KEYS is set, so that a client may or may not need one.
        public: list[dict[str, Any]] | None = [{"Service key": []}, {}] if name == "POST /validate-token" else None
        assert operation.get("security") == (public if name in PUBLIC else [{"Login": []}]), name


def test_operations_have_names_for_people_and_for_generated_clients(document: dict[str, Any]) -> None:
    identifiers = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(identifiers)) == len(identifiers)
    for name, operation in operations(document):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
        assert not operation["operationId"].endswith(("_get", "_post", "_put", "_delete")), name
        assert re.fullmatch(r"[A-Z][a-z].+", operation["summary"])
        for answer in operation["responses"].values():
            assert answer["description"] not in ("", "Successful Response"), name


def test_the_pages_begin_with_what_a_newcomer_needs_first() -> None:
    tags = {}
    for name, document in DOCUMENTS.items():
        tags[name] = list(dict.fromkeys(tag for _, operation in operations(document) for tag in operation["tags"]))
    assert tags == {
        "user-service": ["accounts", "sessions", "tokens", "administration", "health"],
        "product-service": ["products", "health"],
    }
    assert next(iter(DOCUMENTS["user-service"]["paths"])) == "/register"
    assert all("Authorize" in document["info"]["description"] for document in DOCUMENTS.values())


def test_no_constraint_of_a_schema_is_lost_under_a_name_that_json_schema_does_not_know(
    document: dict[str, Any],
) -> None:
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
