"""The documentation pages, as far as they can be tested without a browser."""

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

import product_service.main
import user_service.main
from product_service.settings import Settings as ProductSettings
from testkit.processes import Service, Services
from user_service.settings import Settings as UserSettings

# Swagger UI sends these to get a token, even if the client id and secret are empty.
SWAGGER_UI_HEADERS = {"X-Requested-With": "XMLHttpRequest", "Authorization": "Basic Og=="}


class Page(HTMLParser):
    """The URLs that a page loads, and the text of its inline scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.inline = ""
        self._in_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        self.urls += [value or "" for name, value in attrs if name in ("src", "href", "spec-url")]
        self.inline += "".join(value or "" for name, value in attrs if name.startswith("on"))

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.inline += data


@pytest.fixture(params=["user-service", "product-service"])
def service(request: pytest.FixtureRequest, services: Services) -> Service:
    return services.users if request.param == "user-service" else services.products


@pytest.fixture
async def default_users(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The user service with default settings, as on a development machine."""
    app = user_service.main.create_app(UserSettings(_env_file=None, data_dir=tmp_path))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8001") as client:
        yield client


def directives(policy: str) -> dict[str, list[str]]:
    """The sources of a Content-Security-Policy, by directive."""
    return {name: sources for name, *sources in (directive.split() for directive in policy.split(";"))}


HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"}


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_a_page_loads_only_assets_of_its_own_service(services: Services, service: Service, path: str) -> None:
    with service.client() as client:
        page = Page(client.get(path, headers=HTML).text)
        own = [url for url in page.urls if url != services.users.url]
        assert len(own) >= 3
        for url in own:
            assert not re.match(r"[a-z]+:|/", url), "not relative: another host, or outside the prefix of a proxy"
            answer = client.get(urljoin(path, url))
            assert answer.status_code == 200, url
            assert answer.content


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/docs/assets/start.js", "/docs/assets/redoc.standalone.js"])
def test_the_content_security_policy_forbids_foreign_and_inline_scripts(service: Service, path: str) -> None:
    with service.client() as client:
        answer = client.get(path, headers=HTML)
    policy = directives(answer.headers["content-security-policy"])
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == ["'self'"]
    assert policy["img-src"] == ["'self'", "data:"]
    assert policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.headers["content-type"].startswith("text/html"):
        assert Page(answer.text).inline.strip() == ""


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html;q=0.5", ""])
def test_the_start_page_is_json_for_programs(services: Services, service: Service, accept: str) -> None:
    with service.client(headers={"Accept": accept}) as client:
        answer = client.get("/")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["vary"] == "Accept, Origin"
        links = answer.json()["links"]
        login = links.pop("login", None)
        assert login == (f"{services.users.url}/login" if service is services.products else None)
        assert set(links) == {"docs", "redoc", "openapi", "health"}
        assert [client.get(f"/{link}").status_code for link in links.values()] == [200] * 4


def test_the_start_page_is_html_for_browsers(services: Services, service: Service) -> None:
    with service.client(headers=HTML) as client:
        answer = client.get("/")
        health = client.get("/health").json()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["vary"] == "Accept, Origin"
    assert "{" not in answer.text
    assert health["version"] in answer.text
    assert (services.users.url in Page(answer.text).urls) == (service is services.products)


def test_browsers_find_an_icon(service: Service) -> None:
    with service.client() as client:
        answer = client.get("/favicon.ico")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert answer.content.startswith(b"<svg")


def test_redoc_loads_no_logo_from_another_host(service: Service) -> None:
    with service.client() as client:
        script = client.get("/docs/assets/redoc.standalone.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert len(script.content) > 500_000
    assert b"cdn.redoc" not in script.content


def test_swagger_ui_stores_no_token_in_the_browser(service: Service) -> None:
    with service.client() as client:
        start = client.get("/docs/assets/start.js").text
    assert "SwaggerUIBundle(" in start
    assert "persistAuthorization" not in start


def test_both_pages_get_their_token_from_the_user_service(
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


async def test_the_product_page_logs_in_where_tokens_are_validated(tmp_path: Path) -> None:
    """A password must not go to the default port if another user service is configured."""
    settings = ProductSettings(_env_file=None, data_dir=tmp_path, port=18002, user_service_url="http://localhost:18001")
    app = product_service.main.create_app(settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:18002") as client:
        document = await client.get("/openapi.json")
        policy = directives((await client.get("/docs")).headers["content-security-policy"])
    flow = document.json()["components"]["securitySchemes"]["Login"]["flows"]["password"]
    assert flow["tokenUrl"] == "http://localhost:18001/login"
    assert policy["connect-src"] == ["'self'", "http://localhost:18001"]
    assert ":8001" not in document.text.replace('"url":"http://localhost:8001"', "")


async def test_the_public_url_of_the_user_service_may_have_a_path(tmp_path: Path) -> None:
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
async def test_authorize_on_the_product_page_passes_the_preflight_by_default(
    default_users: httpx.AsyncClient, origin: str
) -> None:
    headers = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-requested-with",
    }
    preflight = await default_users.options("/login", headers={"Origin": origin, **headers})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    allowed = {name.strip().lower() for name in preflight.headers["access-control-allow-headers"].split(",")}
    assert allowed >= {"authorization", "x-requested-with"}


async def test_a_page_of_another_origin_fails_the_preflight(default_users: httpx.AsyncClient) -> None:
    headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = await default_users.options("/login", headers={"Origin": "http://shop.example:8002", **headers})
    assert "access-control-allow-origin" not in preflight.headers


def test_the_product_page_can_read_the_token(services: Services) -> None:
    account = services.sign_up()
    origin = {"Origin": services.products.url}
    form = {"grant_type": "password", "username": account.username, "password": account.password}
    with services.users.client(headers={**origin, **SWAGGER_UI_HEADERS}) as client:
        answer = client.post("/login", data=form)
    assert answer.status_code == 200
    assert answer.json()["token_type"] == "bearer"
    assert answer.headers["access-control-allow-origin"] == services.products.url
