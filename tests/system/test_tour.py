"""A user's way through both services, from the registration to the last deletion, and what is logged."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from testkit.processes import Services, problem

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
PAGES = {"/docs", "/redoc", "/openapi.json", "/docs/assets/swagger-ui.css", "/docs/assets/start.js"}
LOGGED = {
    "time",
    "level",
    "service",
    "message",
    "request_id",
    "method",
    "route",
    "status",
    "duration_ms",
    "user_id",
    "ip",
}


@pytest.fixture(scope="module")
def services(services_on_both: Services) -> Services:
    return services_on_both


@pytest.fixture
def users(services: Services) -> Iterator[httpx.Client]:
    with services.users.client() as client:
        yield client


@pytest.fixture
def products(services: Services) -> Iterator[httpx.Client]:
    with services.products.client() as client:
        yield client


def test_a_user_registers_logs_in_and_maintains_a_product(users: httpx.Client, products: httpx.Client) -> None:
    credentials = {"username": "Ada.Lovelace", "password": "Grüße an die 機械, 1843"}
    registered = users.post("/register", json=credentials)
    assert registered.status_code == 201
    account = registered.json()
    assert registered.headers["location"] == f"/users/{account['id']}"
    assert set(account) == {"id", "username", "roles", "is_active", "created_at", "updated_at"}
    assert account["username"] == "Ada.Lovelace"
    assert account["roles"] == ["user"]
    assert account["is_active"] is True
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", account["created_at"])

    as_form = users.post("/login", data={"grant_type": "password", "scope": "", **credentials})
    as_json = users.post("/login", json={**credentials, "username": "ADA.lovelace"})
    for login in (as_form, as_json):
        assert login.status_code == 200
        assert login.headers["cache-control"] == "no-store"
        assert login.json().keys() >= {"access_token", "token_type", "expires_in"}
        assert (login.json()["token_type"], login.json()["expires_in"]) == ("bearer", 900)
        bearer = {"Authorization": f"Bearer {login.json()['access_token']}"}
        assert users.get("/me", headers=bearer).json() == account

    bearer = {"Authorization": f"Bearer {as_form.json()['access_token']}"}
    keyboard = {"name": "Keyboard", "description": "Keys\tand\nlines", "price": 89.9, "quantity": 12, "sku": "KB-87"}
    created = products.post("/products", json=keyboard, headers=bearer)
    assert created.status_code == 201
    product = created.json()
    assert product.items() >= {**keyboard, "price": "89.90", "currency": "USD", "category": None}.items()
    assert (product["owner_id"], product["version"]) == (account["id"], 1)
    address = created.headers["location"]
    assert address == f"/products/{product['id']}"
    assert products.get(address).json() == product
    assert product in products.get("/products").json()

    changed = products.put(address, json={"price": "79.95", "description": None}, headers=bearer)
    assert changed.status_code == 200
    expected = {**product, "price": "79.95", "description": None, "version": 2}
    assert {**changed.json(), "updated_at": product["updated_at"]} == expected
    assert changed.json()["updated_at"] > product["updated_at"]
    assert products.get(address).json() == changed.json()

    deleted = products.delete(address, headers=bearer)
    assert (deleted.status_code, deleted.content) == (204, b"")
    problem(products.get(address), 404, "product-not-found")
    problem(products.delete(address, headers=bearer), 404, "product-not-found")
    assert product["id"] not in [each["id"] for each in products.get("/products").json()]


def test_only_the_owner_can_change_a_product(services: Services, products: httpx.Client) -> None:
    owner, other = services.sign_up(), services.sign_up()
    product = services.create_product(owner)
    address = f"/products/{product['id']}"
    problem(products.put(address, json={"price": "0.01"}, headers=other.bearer), 403, "not-the-owner")
    problem(products.delete(address, headers=other.bearer), 403, "not-the-owner")
    assert "www-authenticate" not in products.delete(address, headers=other.bearer).headers
    for headers, expected in (({}, "Bearer"), ({"Authorization": "Bearer abc"}, 'Bearer error="invalid_token"')):
        refused = products.put(address, json={"price": "0.01"}, headers=headers)
        problem(refused, 401)
        assert refused.headers["www-authenticate"] == expected
    assert products.get(address).json() == product


def test_concurrent_registrations_of_one_name_open_one_account(services: Services, users: httpx.Client) -> None:
    spellings = ["Grace", "grace", "GRACE", "gRaCe"] * 5
    with ThreadPoolExecutor(len(spellings)) as threads:
        answers = list(
            threads.map(
                lambda name: users.post("/register", json={"username": name, "password": f"password of {name}"}),
                spellings,
            )
        )
    (opened,) = [answer.json() for answer in answers if answer.status_code == 201]
    taken = [problem(answer, 409, "username-taken") for answer in answers if answer.status_code != 201]
    assert len(taken) == 19
    name = opened["username"]
    assert services.log_in(name, f"password of {name}")
    for other in {*spellings} - {name}:
        answer = users.post("/login", json={"username": name, "password": f"password of {other}"})
        problem(answer, 401, "invalid-credentials")


def test_concurrent_creations_with_one_sku_create_one_product(services: Services, products: httpx.Client) -> None:
    owner = services.sign_up()
    draft = {"name": "Lamp", "price": 1, "quantity": 1, "sku": "one-of-its-kind"}
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: products.post("/products", json=draft, headers=owner.bearer), range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    for answer in answers:
        if answer.status_code != 201:
            problem(answer, 409, "sku-taken")


def test_concurrent_changes_are_all_counted(services: Services, products: httpx.Client) -> None:
    owner = services.sign_up()
    address = f"/products/{services.create_product(owner, quantity=1000)['id']}"
    with ThreadPoolExecutor(10) as threads:
        answers = list(
            threads.map(lambda n: products.put(address, json={"quantity": n}, headers=owner.bearer), range(10))
        )
    assert [answer.status_code for answer in answers] == [200] * 10
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 12))
    last = max((answer.json() for answer in answers), key=lambda product: product["version"])
    assert products.get(address).json() == last


def test_following_the_links_visits_every_product_once(services: Services, products: httpx.Client) -> None:
    owner = services.sign_up()
    created = [services.create_product(owner, name=f"Lamp {n}")["id"] for n in range(5)]
    seen: list[int] = []
    url: str | None = "/products?limit=2"
    while url:
        page = products.get(url)
        assert 1 <= len(page.json()) <= 2
        seen += [product["id"] for product in page.json()]
        url = page.links.get("next", {}).get("url")
    assert seen == sorted(set(seen))
    assert set(created) <= set(seen)


def test_a_request_id_is_in_the_logs_of_both_services(services: Services, products: httpx.Client) -> None:
    owner = services.sign_up()
    request_id = "from-the-client:42_a.b"
    answer = products.post(
        "/products",
        json={"name": "Lamp", "price": 1, "quantity": 1},
        headers={**owner.bearer, "X-Request-ID": request_id},
    )
    assert answer.headers["x-request-id"] == request_id
    at_products = services.products.wait_for_log_line("request", request_id=request_id)
    assert (at_products["method"], at_products["route"], at_products["status"]) == ("POST", "/products", 201)
    hop = services.products.wait_for_log_line("called user-service", request_id=request_id)
    assert (hop["call"], hop["status"], hop["outcome"]) == ("POST /validate-token", 200, "valid")
    assert 0 < hop["duration_ms"] <= at_products["duration_ms"]
    at_users = services.users.wait_for_log_line("request", request_id=request_id)
    assert (at_users["method"], at_users["route"], at_users["status"]) == ("POST", "/validate-token", 200)


@pytest.mark.parametrize("malformed", [b"", b"with space", b"x" * 129, b"a\tb", b"caf\xc3\xa9", b'"}{"level":"error'])
def test_a_malformed_request_id_is_replaced(products: httpx.Client, malformed: bytes) -> None:
    answer = products.get("/health/live", headers={b"X-Request-ID": malformed})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_the_log_line_of_a_request_has_the_documented_fields(
    services: Services, users: httpx.Client, products: httpx.Client
) -> None:
    owner = services.sign_up()
    product = services.create_product(owner)
    address, bearer = f"/products/{product['id']}", owner.bearer
    credentials = {"username": owner.username, "password": owner.password}
    calls = [
        (users.get("/me", headers=bearer), "/me", owner.id),
        (users.post("/login", json=credentials), "/login", owner.id),
        (users.post("/login", json={**credentials, "password": "wrong"}), "/login", None),
        (users.get("/me"), "/me", None),
        (users.get("/nowhere"), None, None),
        (products.get(address), "/products/{product_id}", None),
        (products.put(address, json={"quantity": 4}, headers=bearer), "/products/{product_id}", owner.id),
        (products.put(address, json={"quantity": -4}, headers=bearer), "/products/{product_id}", owner.id),
        (products.head("/products"), "/products", None),
        (products.patch("/products"), "/products", None),
        (products.delete(address, headers={**bearer}), "/products/{product_id}", owner.id),
    ]
    for answer, route, user_id in calls:
        service = services.users if str(answer.url).startswith(services.users.url) else services.products
        request_id = answer.headers["x-request-id"]
        line = service.wait_for_log_line("request", request_id=request_id)
        assert set(line) == LOGGED
        assert line["service"] == service.name
        assert (line["method"], line["status"]) == (answer.request.method, answer.status_code)
        assert (line["route"], line["user_id"]) == (route, user_id), answer.request.url
        assert line["level"] == "info"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["time"])
        assert 0 < line["duration_ms"] < 20_000
        assert [each["message"] for each in service.log_lines if each.get("request_id") == request_id].count(
            "request"
        ) == 1


def test_head_works_wherever_get_does(services: Services) -> None:
    owner = services.sign_up()
    services.users.sql("UPDATE users SET is_admin = true WHERE id = :id", id=owner.id)
    product = services.create_product(owner)
    for service in (services.users, services.products):
        with service.client(headers=owner.bearer) as client:
            document = client.get("/openapi.json").json()
            paths = {path for path, operations in document["paths"].items() if "get" in operations} | PAGES
            assert len(paths) >= len(PAGES) + 4
            for path in paths:
                address = path.replace("{product_id}", str(product["id"])).replace("{user_id}", str(owner.id))
                query = {"format": "csv"} if path == "/products/export" else {}
                get, head = client.get(address, params=query), client.head(address, params=query)
                assert (head.status_code, head.content) == (200, b""), path
                varying = {"x-request-id", "date", "transfer-encoding"}  # The last one describes a body.
                assert {name: value for name, value in head.headers.items() if name not in varying} == {
                    name: value for name, value in get.headers.items() if name not in varying
                }


def test_any_other_method_is_a_405_that_lists_the_allowed_ones(services: Services) -> None:
    product = services.create_product(services.sign_up())
    for service in (services.users, services.products):
        with service.client() as client:
            paths = {
                path: {method.upper() for method in operations}
                for path, operations in client.get("/openapi.json").json()["paths"].items()
            }
            for path, documented in {**paths, **{page: {"GET"} for page in PAGES}}.items():
                allowed = documented | {"HEAD"} if "GET" in documented else documented
                if path == "/forward-auth":  # Only one of its methods is documented: they all do the same.
                    allowed = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
                for method in set(METHODS) - allowed:
                    answer = client.request(method, path.replace("{product_id}", str(product["id"])))
                    if method == "HEAD":
                        assert (answer.status_code, answer.content) == (405, b"")
                    else:
                        problem(answer, 405, "method-not-allowed")
                    assert set(answer.headers["allow"].split(", ")) == allowed, (method, path)


def test_an_unknown_path_is_a_404_for_every_method(users: httpx.Client, products: httpx.Client) -> None:
    for client in (users, products):
        for address in ("/nothing", "/register/", "/products/1/", "//products", "/docs/assets/../../x", "/%00"):
            for method in ("GET", "POST", "DELETE"):
                # With the host: httpx would take `//products` for one.
                body = problem(client.request(method, f"{str(client.base_url).rstrip('/')}{address}"), 404)
                assert body["code"] in ("not-found", "asset-not-found")
        assert problem(client.get("/ein Fuß"), 404)["instance"] == "/ein%20Fu%C3%9F"
