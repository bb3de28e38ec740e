"""CORS: what a script in a browser may send and read, on every kind of response, including a 500."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from testkit.processes import Account, Service, Services, problem

FOREIGN = "https://elsewhere.example"
EXPOSED_HEADERS = {
    *(
        "content-disposition",
        "etag",
        "idempotency-replayed",
        "link",
        "location",
        "retry-after",
        "www-authenticate",
        "x-request-id",
    ),
    "x-total-count",
}
ALLOWED_HEADERS = {
    *("authorization", "content-type", "idempotency-key", "if-match", "if-none-match", "x-request-id"),
    *("x-requested-with", "traceparent", "tracestate"),
}


@pytest.fixture(scope="module")
def owner(services: Services) -> Account:
    return services.sign_up()


@pytest.fixture(params=["users", "products"])
def service(request: pytest.FixtureRequest, services: Services) -> Service:
    found: Service = getattr(services, request.param)
    return found


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture
def products(services: Services) -> Iterator[httpx.Client]:
    with services.products.client() as client:
        yield client


def origins(services: Services) -> list[str]:
    """The origins of both documentation pages, and of frontends on this machine."""
    documentation = [services.users.url, services.products.url.replace("127.0.0.1", "localhost")]
    return [*documentation, "http://localhost:5174", "http://[::1]:3000"]


def preflight(client: httpx.Client, origin: str, method: str, headers: str) -> httpx.Response:
    return client.options(
        "/products/1",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": headers,
        },
    )


def words(header: str) -> set[str]:
    return {word.strip().lower() for word in header.split(",")}


def assert_readable(answer: httpx.Response, origin: str) -> None:
    """Assert that a script of this origin may read the response and the headers it needs."""
    assert answer.headers["access-control-allow-origin"] == origin
    assert "origin" in words(answer.headers["vary"])
    assert "access-control-allow-credentials" not in answer.headers
    assert words(answer.headers["access-control-expose-headers"]) == EXPOSED_HEADERS
    assert answer.headers["x-request-id"]


def test_a_preflight_of_an_allowed_origin_is_accepted(services: Services, client: httpx.Client) -> None:
    for origin in origins(services):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            answer = preflight(client, origin, method, ", ".join(sorted(ALLOWED_HEADERS)))
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == origin
            assert method.lower() in words(answer.headers["access-control-allow-methods"])
            assert words(answer.headers["access-control-allow-headers"]) >= ALLOWED_HEADERS
            assert "access-control-allow-credentials" not in answer.headers
            assert answer.headers["x-request-id"]


def test_a_preflight_outside_the_policy_is_rejected(services: Services, client: httpx.Client) -> None:
    own = services.users.url
    for origin, method, headers in (
        (FOREIGN, "PUT", "authorization"),
        ("null", "PUT", "authorization"),
        (own + ".elsewhere.example", "PUT", "authorization"),
        (own.replace("127.0.0.1", "127.0.0.2"), "PUT", "authorization"),
        (own, "PUT", "x-secret"),
        (own, "PROPFIND", "authorization"),
    ):
        answer = preflight(client, origin, method, headers)
        problem(answer, 400, "preflight-refused")
        if origin != own:
            assert "access-control-allow-origin" not in answer.headers


def test_only_allowed_origins_can_read_a_response_of_any_status(
    services: Services, client: httpx.Client, owner: Account
) -> None:
    paths = set(client.get("/openapi.json").json()["paths"])
    writing = "/products" if "/products" in paths else "/login"
    for origin in (*origins(services), FOREIGN, "null"):
        calls: list[tuple[str, str, dict[str, Any], set[int]]] = [
            ("GET", "/health/ready", {}, {200}),
            ("HEAD", "/health", {}, {200}),
            ("GET", "/health?x=1", {}, {422}),
            ("GET", "/nothing", {}, {404}),
            ("POST", "/health", {}, {405}),
            ("POST", writing, {"content": "{"}, {415}),
            ("POST", writing, {"json": {"a": 1}}, {401, 422}),
        ]
        for method, path, body, statuses in calls:
            answer = client.request(method, path, headers={**owner.bearer, "Origin": origin}, **body)
            assert answer.status_code in statuses
            if origin in origins(services):
                assert_readable(answer, origin)
            else:
                assert not [name for name in answer.headers if name.startswith("access-control-allow")]


def test_an_allowed_origin_can_read_a_401(services: Services, products: httpx.Client) -> None:
    for authorization in ("", "Bearer abc"):
        answer = products.delete("/products/1", headers={"Origin": services.users.url, "Authorization": authorization})
        problem(answer, 401)
        assert_readable(answer, services.users.url)


def test_an_unexpected_exception_is_a_readable_500_without_details(
    services: Services, products: httpx.Client, owner: Account
) -> None:
    product = services.create_product(owner)
    # No request causes an exception, but a row that the service did not write does.
    with closing(sqlite3.connect(services.products.database, timeout=10)) as connection:
        connection.execute("UPDATE products SET created_at = 'yesterday' WHERE id = ?", (product["id"],))
        connection.commit()
    origin, request_id = services.products.url, "the-500"
    try:
        answer = products.get(f"/products/{product['id']}", headers={"Origin": origin, "X-Request-ID": request_id})
        body = problem(answer, 500, "internal-error")
        assert_readable(answer, origin)
        assert body["request_id"] == request_id
        assert "yesterday" not in answer.text
        assert products.head(f"/products/{product['id']}").content == b""
        foreign = products.get(f"/products/{product['id']}", headers={"Origin": FOREIGN})
        problem(foreign, 500, "internal-error")
        assert "access-control-allow-origin" not in foreign.headers
    finally:
        with closing(sqlite3.connect(services.products.database, timeout=10)) as connection:
            connection.execute("DELETE FROM products WHERE id = ?", (product["id"],))
            connection.commit()
    line = services.products.wait_for_log_line("unexpected exception", request_id=request_id)
    assert line["level"] == "error"
    assert "yesterday" in line["exception"]
    services.products.wait_for_log_line("request", request_id=request_id, status=500, level="warning")


def test_an_allowed_origin_can_read_a_503(services: Services, products: httpx.Client, owner: Account) -> None:
    origin = services.users.url
    services.users.pause()
    try:
        headers = {**owner.bearer, "Origin": origin, "X-Request-ID": "the-503"}
        answer = products.post("/products", json={"name": "Lamp", "price": 1, "quantity": 1}, headers=headers)
    finally:
        services.users.resume()
    problem(answer, 503, "auth-unavailable")
    assert_readable(answer, origin)
    assert answer.headers["x-request-id"] == "the-503"
