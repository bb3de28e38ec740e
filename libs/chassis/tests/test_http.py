"""Routing, problems and middleware, as a client of a small application sees them."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Header, Query, Request, Response, Security
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from chassis import errors
from chassis.errors import FieldError
from chassis.http.bearer import LONGEST_TOKEN, bearer
from chassis.http.middleware import context_headers
from chassis.http.problems import MEDIA_TYPE, Problem, documented, status_of
from chassis.http.routing import QueryParameters, Router
from chassis.ids import Digits
from testkit.library import client_of, logged, make_app

ORIGIN = "http://localhost:3000"
SECRET = "the-secret-of-the-exception"
TOKEN = {"Authorization": "Bearer a.b-c_d~e+f/g=="}


@dataclass(frozen=True)
class Reader:
    user_id: int


async def anybody(_: str) -> Reader:
    return Reader(user_id=7)


CurrentReader = Annotated[Reader, Security(bearer)]


class Draft(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    price: Decimal = Decimal(1)
    tags: dict[str, int] = {}


class Search(QueryParameters):
    q: str = ""


class Broken(errors.Invalid):
    pass


class NobodyHere(errors.Unauthenticated):
    code = "nobody-here"
    detail = "Nobody is asking."


class BadBadge(errors.Unauthenticated):
    code = "bad-badge"
    detail = "The badge is not good."
    bearer_error = "invalid_token"


class NotYours(errors.Forbidden):
    code = "not-yours"
    detail = "It belongs to somebody else."


class NoBook(errors.NotFound):
    code = "no-book"
    detail = "There is no such book."


class Lent(errors.Conflict):
    code = "lent"
    detail = "Somebody has it."


class Closed(errors.Unavailable):
    code = "closed"
    detail = "The library is closed."
    retry_after = timedelta(minutes=1)


FACTS = {each.code: each for each in (NobodyHere, BadBadge, NotYours, NoBook, Lent, Closed)}


def library() -> Router:
    router = Router(prefix="/books", tags=["books"])

    @router.get("", responses=documented(Closed))
    async def list_books(search: Annotated[Search, Query()]) -> dict[str, str]:
        return {"q": search.q}

    @router.post("", status_code=201, responses=documented(NobodyHere, BadBadge, Lent))
    async def create_book(draft: Draft, caller: CurrentReader) -> dict[str, Any]:
        return {"price": str(draft.price), "name": draft.name}

    @router.get("/{book_id}")
    async def show_book(book_id: Annotated[int, Digits], request: Request) -> dict[str, Any]:
        request.state.user_id = 7
        return {"id": book_id, "sent_on": context_headers()}

    @router.delete("/{book_id}", status_code=204)
    async def delete_book(book_id: int, caller: CurrentReader) -> Response:
        return Response(status_code=204)

    @router.post("/{book_id}/lend")
    async def lend_book(book_id: int) -> dict[str, int]:
        return {"id": book_id}

    return router


def trouble() -> Router:
    router = Router(prefix="/trouble", tags=["trouble"])

    @router.get("/facts/{code}")
    async def raise_fact(code: str) -> None:
        raise FACTS[code]

    @router.get("/invalid")
    async def raise_invalid() -> None:
        raise errors.Invalid([FieldError("/a~1b", "It is too wide."), FieldError("/c", "It is too long.")])

    @router.get("/unexpected")
    async def raise_unexpected() -> None:
        raise ZeroDivisionError(SECRET)

    @router.get("/headers")
    async def need_header(x_count: Annotated[int, Header()]) -> int:
        return x_count

    @router.get("/cut")
    async def cut() -> Response:
        async def half() -> AsyncIterator[bytes]:
            yield b"half"
            raise ZeroDivisionError(SECRET)

        return StreamingResponse(half())

    return router


def small() -> Router:
    router = Router(prefix="/small", tags=["small"], body_limit=100)

    @router.post("")
    async def take_little(draft: Draft) -> str:
        return draft.name

    return router


def any_body() -> Router:
    router = Router(prefix="/any", tags=["any"])

    @router.post("")
    async def take_anything(body: dict[str, Any] | list[Any]) -> str:
        return repr(body)

    return router


@pytest.fixture
def app() -> FastAPI:
    return make_app(library(), trouble(), small(), any_body(), authenticate=anybody, max_body_bytes=2_000)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body, if the answer is this problem in every respect that all problems have in common."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    body: dict[str, Any] = answer.json()
    Problem.model_validate(body)
    assert body["type"] == "about:blank"
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


# Routing


async def test_a_body_is_decoded_exactly_before_it_is_validated(client: httpx.AsyncClient) -> None:
    body = b'{"name": "Faust", "price": 19.990000000000000000001}'
    answer = await client.post("/books", content=body, headers={**TOKEN, "Content-Type": "application/json"})
    assert answer.json() == {"name": "Faust", "price": "19.990000000000000000001"}


async def test_what_a_body_decodes_to_is_what_the_operation_gets(client: httpx.AsyncClient) -> None:
    for text, meaning in (("{}", "{}"), ("[]", "[]"), ('{"a": [1, null]}', "{'a': [1, None]}")):
        answer = await client.post("/any", content=text, headers={"Content-Type": "application/json"})
        assert answer.json() == meaning


@pytest.mark.parametrize("text", ["null", "false", "0", '""', "17", '"text"'])
async def test_a_body_that_is_json_but_no_object_is_a_422(client: httpx.AsyncClient, text: str) -> None:
    answer = await client.post("/books", content=text, headers={**TOKEN, "Content-Type": "application/json"})
    assert problem(answer, 422, "validation-failed")["errors"][0]["pointer"] == ""


async def test_a_missing_body_is_a_422_and_points_at_the_whole(client: httpx.AsyncClient) -> None:
    answer = await client.post("/books", headers=TOKEN)
    assert problem(answer, 422, "validation-failed")["errors"] == [{"pointer": "", "detail": "Field required"}]


@pytest.mark.parametrize("content_type", ["application/json", "APPLICATION/JSON; charset=utf-8"])
async def test_a_content_type_of_any_case_and_charset_reaches_the_operation(
    client: httpx.AsyncClient, content_type: str
) -> None:
    answer = await client.post("/books", content=b'{"name": "a"}', headers={**TOKEN, "Content-Type": content_type})
    assert answer.status_code == 201


async def test_refusals_come_in_their_order(client: httpx.AsyncClient) -> None:
    def post(body: bytes, **headers: str) -> Any:
        return client.post("/books?colour=red", content=body, headers=headers)

    json_type = {"Content-Type": "application/json"}
    problem(await post(b"x" * 2_001), 413, "body-too-large")
    problem(await post(b"{"), 415, "unsupported-media-type")
    problem(await post(b"{", **json_type), 400, "malformed-body")
    problem(await post(b"{}", **json_type), 401, "not-authenticated")
    body = problem(await post(b"{}", **json_type, **TOKEN), 422, "validation-failed")
    assert body["errors"] == [
        {"parameter": "colour", "detail": "There is no such parameter"},
        {"pointer": "/name", "detail": "Field required"},
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/books?colour=red"),
        ("GET", "/books?q=a&colour=red"),
        ("GET", "/books/1?colour=red"),
        ("GET", "/books/1?colour"),
        ("POST", "/books/1/lend?colour=red"),
        ("GET", "/docs?colour=red"),
    ],
)
async def test_an_unknown_query_parameter_is_a_422(client: httpx.AsyncClient, method: str, path: str) -> None:
    body = problem(await client.request(method, path), 422, "validation-failed")
    assert body["errors"] == [{"parameter": "colour", "detail": "There is no such parameter"}]


async def test_a_missing_token_is_told_before_an_unknown_query_parameter(client: httpx.AsyncClient) -> None:
    problem(await client.delete("/books/1?colour=red"), 401, "not-authenticated")
    problem(await client.delete("/books/x?colour=red"), 401, "not-authenticated")
    answer = await client.delete("/books/x?colour=red", headers=TOKEN)
    assert {each["parameter"] for each in problem(answer, 422, "validation-failed")["errors"]} == {"book_id", "colour"}


async def test_the_body_limit_of_a_router_holds_for_it_and_for_no_other(client: httpx.AsyncClient) -> None:
    body = {"name": "x" * 200}
    answer = await client.post("/small", json=body)
    assert "100 bytes" in problem(answer, 413, "body-too-large")["detail"]
    assert (await client.post("/small", json={"name": "x"})).status_code == 200
    assert (await client.post("/books", json=body, headers=TOKEN)).status_code == 201
    answer = await client.post("/books", json={"name": "x" * 2_000}, headers=TOKEN)
    assert "2000 bytes" in problem(answer, 413, "body-too-large")["detail"]


async def test_a_chunked_body_that_announces_no_length_is_limited_as_well(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b" " * 100

    answer = await client.post("/books", content=chunks(), headers={"Content-Type": "application/json"})
    assert "content-length" not in answer.request.headers
    problem(answer, 413, "body-too-large")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"x" * 5_000])
async def test_where_no_body_is_read_none_is_looked_at(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/books/1/lend", content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 200
    assert (await client.request("DELETE", "/books/1", content=body, headers=TOKEN)).status_code == 204


# Problems


@pytest.mark.parametrize(
    ("code", "status", "title", "headers"),
    [
        ("nobody-here", 401, "Unauthorized", {"www-authenticate": "Bearer"}),
        ("bad-badge", 401, "Unauthorized", {"www-authenticate": 'Bearer error="invalid_token"'}),
        ("not-yours", 403, "Forbidden", {}),
        ("no-book", 404, "Not Found", {}),
        ("lent", 409, "Conflict", {}),
        ("closed", 503, "Service Unavailable", {"retry-after": "60"}),
    ],
)
async def test_each_category_has_its_status_and_headers(
    client: httpx.AsyncClient, code: str, status: int, title: str, headers: dict[str, str]
) -> None:
    answer = await client.get(f"/trouble/facts/{code}")
    body = problem(answer, status, code)
    assert body["title"] == title
    assert body["detail"] == FACTS[code].detail
    assert body["instance"] == f"/trouble/facts/{code}"
    assert "errors" not in body
    said = {name: answer.headers[name] for name in ("www-authenticate", "retry-after") if name in answer.headers}
    assert said == headers
    assert status_of(FACTS[code]) == status


async def test_an_invalid_request_names_each_thing_to_mend(client: httpx.AsyncClient) -> None:
    body = problem(await client.get("/trouble/invalid"), 422, "validation-failed")
    assert body["title"] == "Unprocessable Content"
    assert body["errors"] == [
        {"pointer": "/a~1b", "detail": "It is too wide."},
        {"pointer": "/c", "detail": "It is too long."},
    ]


def test_an_error_may_have_a_sentence_of_its_own() -> None:
    assert str(NoBook()) == NoBook.detail
    assert NoBook("Faust was lost.").detail == "Faust was lost."
    assert NoBook.detail == "There is no such book."


async def test_an_unknown_path_is_a_problem(client: httpx.AsyncClient) -> None:
    body = problem(await client.get("/nothing/here"), 404, "not-found")
    assert body["instance"] == "/nothing/here"
    problem(await client.get("/books/"), 404, "not-found")
    problem(await client.get("/docs/assets/secret.js"), 404, "asset-not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/books", "GET, HEAD, POST"),
        ("POST", "/books/1", "DELETE, GET, HEAD"),
        ("PUT", "/books/1", "DELETE, GET, HEAD"),
        ("GET", "/books/1/lend", "POST"),
        ("HEAD", "/books/1/lend", "POST"),
        ("OPTIONS", "/books", "GET, HEAD, POST"),
        ("POST", "/docs", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_hears_of_all_methods_of_the_path(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    if method != "HEAD":
        problem(answer, 405, "method-not-allowed")


async def test_a_wrong_method_hears_of_all_methods_behind_a_prefix_too(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app, root_path="/library")
    async with httpx.AsyncClient(transport=transport, base_url="http://library.test") as client:
        answer = await client.patch("/library/books")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


async def test_a_pointer_escapes_what_json_pointers_are_made_of(client: httpx.AsyncClient) -> None:
    draft = {"name": "", "tags": {"a/b": "x", "c~d": "x", "~1": "x", "é": "x", "": "x"}, "extra/~field": 1}
    body = problem(await client.post("/books", json=draft, headers=TOKEN), 422, "validation-failed")
    assert {each["pointer"] for each in body["errors"]} == {
        "/name",
        "/tags/a~1b",
        "/tags/c~0d",
        "/tags/~01",
        "/tags/é",
        "/tags/",
        "/extra~1~0field",
    }
    details = {each["pointer"]: each["detail"] for each in body["errors"]}
    assert details["/extra~1~0field"] == "There is no such field"


async def test_a_validation_error_never_repeats_what_was_sent(client: httpx.AsyncClient) -> None:
    draft = {"name": ["hunter2"], "price": "hunter2", "tags": {"a": "hunter2"}}
    answer = await client.post("/books", json=draft, headers=TOKEN)
    problem(answer, 422, "validation-failed")
    assert "hunter2" not in answer.text


async def test_a_parameter_or_header_is_named_as_such(client: httpx.AsyncClient) -> None:
    body = problem(await client.get("/books/1_0"), 422, "validation-failed")
    assert body["errors"] == [{"parameter": "book_id", "detail": "Input should be a whole number, written in digits"}]
    body = problem(await client.get("/trouble/headers"), 422, "validation-failed")
    assert body["errors"] == [{"parameter": "x-count", "detail": "Field required"}]


@pytest.mark.parametrize(
    ("path", "instance"),
    [
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/%3Cscript%3E", "/%3Cscript%3E"),
        ("/%22%0D%0A%00", "/%22%0D%0A%00"),
        ("/100%25", "/100%25"),
        ("/a:b@c,d;e", "/a:b@c,d;e"),
    ],
)
async def test_the_instance_is_a_quoted_path_without_its_query(
    client: httpx.AsyncClient, path: str, instance: str
) -> None:
    answer = await client.get(path + "?token=hunter2")
    assert problem(answer, 404, "not-found")["instance"] == instance


async def test_an_unexpected_exception_is_a_500_that_says_nothing(client: httpx.AsyncClient) -> None:
    with logged() as log:
        answer = await client.get("/trouble/unexpected", headers={"Origin": ORIGIN, "X-Request-ID": "mine"})
    body = problem(answer, 500, "internal-error")
    assert answer.headers["x-request-id"] == "mine"
    assert (
        answer.headers["access-control-allow-origin"] == "*" or answer.headers["access-control-allow-origin"] == ORIGIN
    )
    assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
    for word in (SECRET, "ZeroDivision", "Traceback", ".py"):
        assert word not in answer.text
    assert set(body) == {"type", "title", "status", "detail", "instance", "code", "request_id"}
    # The log is where it says everything, under the same id.
    error, request = log.lines
    assert (error["level"], error["request_id"]) == ("error", "mine")
    assert SECRET in error["exception"]
    assert (request["level"], request["status"], request["route"]) == ("warning", 500, "/trouble/unexpected")


# The document


def document(app: FastAPI) -> dict[str, Any]:
    return json.loads(json.dumps(app.openapi()))  # type: ignore[no-any-return]


def test_documented_errors_stand_under_their_status_with_an_example_each(app: FastAPI) -> None:
    responses = document(app)["paths"]["/books"]["post"]["responses"]
    assert set(responses) == {"201", "400", "401", "409", "413", "415", "422"}
    unauthenticated = responses["401"]["content"][MEDIA_TYPE]["examples"]
    assert set(unauthenticated) == {"nobody-here", "bad-badge"}
    assert unauthenticated["bad-badge"]["value"]["detail"] == BadBadge.detail
    assert NobodyHere.detail in responses["401"]["description"]
    assert responses["409"]["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_documented_groups_by_status() -> None:
    grouped = documented(NoBook, Lent, BadBadge, NobodyHere)
    assert set(grouped) == {404, 409, 401}
    assert set(grouped[401]["content"][MEDIA_TYPE]["examples"]) == {"bad-badge", "nobody-here"}


def test_every_operation_documents_a_422_and_those_with_a_body_its_refusals(app: FastAPI) -> None:
    for path, operations in document(app)["paths"].items():
        for method, operation in operations.items():
            expected = {"422", "400", "413", "415"} if "requestBody" in operation else {"422"}
            assert set(operation["responses"]) & {"400", "413", "415", "422"} == expected, (method, path)
            for status, answer in operation["responses"].items():
                assert "X-Request-ID" in answer["headers"]
                if int(status) >= 400:
                    assert list(answer["content"]) == [MEDIA_TYPE]


def test_the_document_has_the_schema_of_a_problem_and_none_of_the_frameworks(app: FastAPI) -> None:
    schemas = document(app)["components"]["schemas"]
    assert {"Problem", "FieldProblem"} <= set(schemas)
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    assert list(schemas) == sorted(schemas)


def test_every_example_of_a_problem_is_one_by_the_documents_own_schema(app: FastAPI) -> None:
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


async def test_a_real_problem_is_one_by_the_documents_schema(app: FastAPI, client: httpx.AsyncClient) -> None:
    schema = {"$ref": "#/components/schemas/Problem", "components": document(app)["components"]}
    for answer in (await client.get("/nothing"), await client.get("/books?colour=red")):
        Draft202012Validator(schema).validate(answer.json())


def test_the_document_says_where_tokens_are_had() -> None:
    own = document(make_app(library()))["components"]["securitySchemes"]["Login"]["flows"]["password"]
    assert own["tokenUrl"] == "login"
    foreign = document(make_app(library(), log_in_at="http://users.test:1"))
    assert (
        foreign["components"]["securitySchemes"]["Login"]["flows"]["password"]["tokenUrl"]
        == "http://users.test:1/login"
    )


def test_documentation_pages_are_not_in_the_document(app: FastAPI) -> None:
    assert not [path for path in document(app)["paths"] if path.startswith(("/docs", "/redoc"))]


# Middleware


PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "If-Match"}

KINDS: dict[str, tuple[str, str, dict[str, str], int]] = {
    "a success": ("GET", "/books", {}, 200),
    "an empty answer": ("DELETE", "/books/1", TOKEN, 204),
    "a head": ("HEAD", "/books", {}, 200),
    "a preflight": ("OPTIONS", "/books", PREFLIGHT, 200),
    "a refused preflight": ("OPTIONS", "/books", {**PREFLIGHT, "Origin": "http://evil.test"}, 400),
    "a 401": ("DELETE", "/books/1", {}, 401),
    "a 404": ("GET", "/nothing", {}, 404),
    "a 405": ("PUT", "/books", {}, 405),
    "a 415": ("POST", "/books", {"Content-Type": "text/plain"}, 415),
    "a 422": ("GET", "/books?colour=red", {}, 422),
    "a 500": ("GET", "/trouble/unexpected", {}, 500),
    "a page": ("GET", "/docs", {}, 200),
    "the document": ("GET", "/openapi.json", {}, 200),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_answer_carries_the_clients_request_id(client: httpx.AsyncClient, kind: str) -> None:
    method, path, headers, status = KINDS[kind]
    content = b"x" if method == "POST" else b""
    with logged() as log:
        answer = await client.request(
            method, path, content=content, headers={**headers, "X-Request-ID": "Mine-1.a:b_c"}
        )
    assert answer.status_code == status
    assert answer.headers.get_list("x-request-id") == ["Mine-1.a:b_c"]
    (request,) = log.requests
    assert (request["request_id"], request["status"], request["method"]) == ("Mine-1.a:b_c", status, method)


@pytest.mark.parametrize(
    "sent", ["", " ", "a b", "x" * 129, "<script>", "a\tb", "a;b", 'a"b', "caf\u00e9", "a/b", "{}", "a,b", "%0a"]
)
async def test_a_request_id_that_is_not_sane_is_replaced(client: httpx.AsyncClient, sent: str) -> None:
    answer = await client.get("/books/1", headers={b"X-Request-ID": sent.encode("latin-1")})
    given = answer.headers["x-request-id"]
    assert given != sent
    assert len(given) == 32
    assert answer.json()["sent_on"] == {"X-Request-ID": given}


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("received", "sent_on"),
    [
        ({"traceparent": f"00-{TRACE}-{PARENT}-01"}, {}),
        ({"traceparent": f"00-{TRACE}-{PARENT}-00", "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"}, {}),
        (
            {"traceparent": f"00-{TRACE}-{PARENT}-03", "tracestate": "rojo=1 , congo=2"},
            {"tracestate": "rojo=1,congo=2"},
        ),
        # The fields of a newer version that this one knows too, with this version's number.
        ({"traceparent": f"01-{TRACE}-{PARENT}-00"}, {"traceparent": f"00-{TRACE}-{PARENT}-00"}),
        ({"traceparent": f"cc-{TRACE}-{PARENT}-01-more-\xe9"}, {"traceparent": f"00-{TRACE}-{PARENT}-01"}),
    ],
)
async def test_a_valid_trace_is_logged_and_sent_on(
    client: httpx.AsyncClient, received: dict[str, str], sent_on: dict[str, str]
) -> None:
    headers = {name.encode(): value.encode("latin-1") for name, value in received.items()}
    with logged() as log:
        answer = await client.get("/books/1", headers={b"X-Request-ID": b"mine", **headers})
    assert answer.json()["sent_on"] == {"X-Request-ID": "mine", **received, **sent_on}
    assert [(line["message"], line["trace_id"]) for line in log.lines] == [("request", TRACE)]


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "hunter2",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01 ,",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-{'x' * 8000}",
    ],
)
async def test_an_invalid_trace_is_ignored_with_its_state_and_without_a_warning(
    client: httpx.AsyncClient, sent: str
) -> None:
    headers = {b"X-Request-ID": b"mine", b"traceparent": sent.encode("latin-1"), b"tracestate": b"rojo=1"}
    with logged() as log:
        answer = await client.get("/books/1", headers=headers)
    assert answer.json()["sent_on"] == {"X-Request-ID": "mine"}
    assert [line["message"] for line in log.lines] == ["request"]
    assert "trace_id" not in log.requests[0]


async def test_two_traces_are_ignored_and_two_states_are_joined(client: httpx.AsyncClient) -> None:
    valid = ("traceparent", f"00-{TRACE}-{PARENT}-01")
    with logged() as log:
        answer = await client.get("/books/1", headers=[valid, valid])
    assert set(answer.json()["sent_on"]) == {"X-Request-ID"}
    assert "trace_id" not in log.requests[0]
    answer = await client.get("/books/1", headers=[valid, ("tracestate", "rojo=1"), ("tracestate", "congo=2")])
    assert answer.json()["sent_on"]["tracestate"] == "rojo=1,congo=2"


@pytest.mark.parametrize(
    "state",
    [
        "",
        "rojo",
        "Rojo=1",
        "rojo=caf\xe9",
        "rojo=1,rojo=2",
        ",".join(f"r{n}={'x' * 256}" for n in range(32)),
        ",".join(f"r{n}=1" for n in range(33)),
    ],
)
async def test_an_invalid_state_is_dropped_without_its_trace_and_without_a_warning(
    client: httpx.AsyncClient, state: str
) -> None:
    traceparent = f"00-{TRACE}-{PARENT}-01"
    headers = {b"traceparent": traceparent.encode(), b"tracestate": state.encode("latin-1")}
    with logged() as log:
        answer = await client.get("/books/1", headers={b"X-Request-ID": b"mine", **headers})
    assert answer.json()["sent_on"] == {"X-Request-ID": "mine", "traceparent": traceparent}
    assert [line["message"] for line in log.lines] == ["request"]


async def test_each_request_without_an_id_gets_a_new_one(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/books")).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


async def test_the_longest_sane_id_is_kept(client: httpx.AsyncClient) -> None:
    answer = await client.get("/books", headers={"X-Request-ID": "x" * 128})
    assert answer.headers["x-request-id"] == "x" * 128


@pytest.mark.parametrize(
    "path", ["/books", "/books?q=a", "/books/1", "/nothing", "/books?colour=red", "/docs", "/openapi.json"]
)
async def test_head_is_answered_like_get_without_a_body(client: httpx.AsyncClient, path: str) -> None:
    headers = {"X-Request-ID": "same"}
    get, head = await client.get(path, headers=headers), await client.head(path, headers=headers)
    assert head.status_code == get.status_code
    assert dict(head.headers) == dict(get.headers)
    assert head.content == b""
    assert get.content != b""


async def test_head_has_no_body_when_an_unexpected_exception_is_answered(client: httpx.AsyncClient) -> None:
    with logged():
        answer = await client.head("/trouble/unexpected")
    assert answer.status_code == 500
    assert answer.content == b""
    assert answer.headers["x-request-id"]


async def test_a_line_is_logged_for_each_request(client: httpx.AsyncClient) -> None:
    with logged() as log:
        await client.get("/books/5?colour=hunter2", headers={"X-Request-ID": "one"})
        await client.get("/books/5", headers={"X-Request-ID": "two"})
        await client.get("/nothing/hunter2", headers={"X-Request-ID": "three"})
        await client.head("/books/5", headers={"X-Request-ID": "four"})
    assert [line["request_id"] for line in log.lines] == ["one", "two", "three", "four"]
    for line in log.lines:
        assert set(line) == {
            "time", "level", "service", "message",
            "request_id", "method", "route", "status", "duration_ms", "user_id",
        }  # fmt: skip
        assert line["service"] == "library"
        assert line["level"] == "info"
        assert isinstance(line["duration_ms"], float)
    seen = [(line["method"], line["route"], line["status"], line["user_id"]) for line in log.lines]
    assert seen == [
        ("GET", "/books/{book_id}", 422, None),
        ("GET", "/books/{book_id}", 200, 7),
        ("GET", None, 404, None),
        ("HEAD", "/books/{book_id}", 200, 7),
    ]


async def test_a_5xx_is_logged_as_a_warning(client: httpx.AsyncClient) -> None:
    with logged("WARNING") as log:
        await client.get("/books")
        await client.get("/trouble/facts/lent")
        await client.get("/trouble/facts/closed")
    assert [(line["level"], line["status"]) for line in log.lines] == [("warning", 503)]


async def test_nothing_that_was_sent_is_in_the_log(client: httpx.AsyncClient) -> None:
    with logged("DEBUG") as log:
        await client.post(
            "/books?password=hunter2", json={"name": "hunter2"}, headers={"Authorization": "Bearer hunter2"}
        )
        await client.get("/hunter2", headers={"Cookie": "hunter2", "User-Agent": "hunter2"})
        await client.post("/books", content=b'{"hunter2', headers={"Content-Type": "application/json"})
    assert len(log.requests) == 3
    assert "hunter2" not in log.text


async def test_the_context_of_one_request_is_gone_in_the_next(client: httpx.AsyncClient) -> None:
    assert context_headers() == {}
    answer = await client.get("/books/1", headers={"X-Request-ID": "mine"})
    assert answer.json()["sent_on"] == {"X-Request-ID": "mine"}
    assert context_headers() == {}
    with logged():
        await client.get("/trouble/unexpected", headers={"X-Request-ID": "mine"})
    assert context_headers() == {}


async def test_an_exception_after_the_answer_has_begun_cuts_the_connection(app: FastAPI) -> None:
    async with client_of(app, raises=True) as client:
        with logged() as log, pytest.raises(ZeroDivisionError):
            await client.get("/trouble/cut")
    assert [line["status"] for line in log.requests] == [200]
    assert context_headers() == {}


async def test_a_page_of_an_allowed_origin_may_call_and_another_may_not(client: httpx.AsyncClient) -> None:
    mine = await client.get("/books", headers={"Origin": ORIGIN})
    assert mine.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in mine.headers
    exposed = set(mine.headers["access-control-expose-headers"].split(", "))
    assert {"Location", "Link", "ETag", "X-Total-Count", "X-Request-ID", "Retry-After", "WWW-Authenticate"} <= exposed
    assert (
        "access-control-allow-origin"
        not in (await client.get("/books", headers={"Origin": "http://evil.test"})).headers
    )


@pytest.mark.parametrize("header", ["Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key",
                                    "X-Request-ID", "X-Requested-With", "traceparent"])  # fmt: skip
async def test_a_preflight_allows_what_scripts_may_send(client: httpx.AsyncClient, header: str) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": header}
    answer = await client.options("/books/1", headers=asked)
    assert answer.status_code == 200
    assert header.lower() in answer.headers["access-control-allow-headers"].lower()


# Bearer tokens


@pytest.mark.parametrize(
    "header",
    ["Bearer abc", "bearer abc", "BEARER  abc", "Bearer abc ", "Bearer " + "a" * LONGEST_TOKEN, TOKEN["Authorization"]],
)
async def test_a_bearer_token_is_taken_from_its_header(client: httpx.AsyncClient, header: str) -> None:
    assert (await client.delete("/books/1", headers={"Authorization": header})).status_code == 204


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "abc", "Basic YTpi", "Bearerabc", "Bearer a b", "Token abc"]
)
async def test_without_a_well_formed_header_nobody_is_authenticated(
    client: httpx.AsyncClient, header: str | None
) -> None:
    answer = await client.delete("/books/1", headers={} if header is None else {"Authorization": header})
    problem(answer, 401, "not-authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "token", ["a" * (LONGEST_TOKEN + 1), "a,b", '"abc"', "a=b", "=", "caf\u00e9", "{}", "a;b", "a:b", "a\\b", "<a>"]
)
async def test_what_cannot_be_a_token_is_invalid_without_a_further_look(client: httpx.AsyncClient, token: str) -> None:
    header = f"Bearer {token}".encode("latin-1")
    answer = await client.delete("/books/1", headers={b"Authorization": header})
    problem(answer, 401, "invalid-token")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
