"""The client of docs/browser.md, in a browser, from another origin than the services."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from testkit.processes import Services, running_services
from tests.browser.conftest import Complaints, OpenPage
from tests.documents import read

PASSWORD = "correct horse battery staple"
START = """async ([users, products]) => {
  const { Client } = await import("./client.js");
  window.client = new Client(users, products);
}"""


@pytest.fixture(scope="module")
def frontend() -> Iterator[int]:
    """The port of a server of the page and its script."""
    script = re.findall(r"```js\n(.*?)```", read("docs/browser.md"), re.DOTALL)[0]
    content = {
        "/": ("text/html", "<!DOCTYPE html><link rel=icon href=data:,>"),
        "/client.js": ("text/javascript", script),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            media_type, text = content[self.path]
            self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class Frontend:
    def __init__(self, page: Page, services: Services, port: int) -> None:
        self.page = page
        self.complaints = Complaints(page)
        page.goto(f"http://localhost:{port}/")
        page.evaluate(START, [services.users.url, services.products.url])

    def run(self, script: str, argument: object = None) -> Any:
        """The result of a script that uses `client` and the argument `it`."""
        return self.page.evaluate(f"async (it) => {{ {script} }}", argument)

    def log_in(self, username: str) -> None:
        self.run("await client.logIn(...it)", [username, PASSWORD])


@pytest.fixture
def page(services: Services, frontend: int, open_page: OpenPage) -> Frontend:
    return Frontend(open_page(), services, frontend)


def test_requests_that_fail_together_share_one_refresh(services: Services, page: Frontend) -> None:
    account = services.sign_up(password=PASSWORD)
    page.log_in(account.username)
    refreshes: list[str] = []
    page.page.on("request", lambda sent: refreshes.append(sent.url) if "/refresh" in sent.url else None)
    before = page.run('return sessionStorage.getItem("refresh_token")')
    names = page.run(
        """client.accessToken = "expired";
        const me = async () => (await (await client.request(`${client.users}/me`)).json()).username;
        return Promise.all([me(), me(), me()]);"""
    )
    assert names == [account.username] * 3
    assert page.run('return sessionStorage.getItem("refresh_token")') != before
    assert page.complaints.refusals == [("GET", "/me", 401)] * 3
    assert len(refreshes) == 1
    assert page.complaints.errors == []


def test_a_reloaded_page_goes_on_with_its_session(services: Services, page: Frontend) -> None:
    account = services.sign_up(password=PASSWORD)
    page.log_in(account.username)
    page.page.reload()
    page.page.evaluate(START, [services.users.url, services.products.url])
    assert page.run("return (await (await client.request(`${client.users}/me`)).json()).username") == account.username


def test_logging_out_needs_no_valid_access_token(services: Services, page: Frontend) -> None:
    account = services.sign_up(password=PASSWORD)
    page.log_in(account.username)
    token = page.run("return client.accessToken")
    page.run('client.accessToken = "expired"; await client.logOut();')
    assert page.run('return [client.accessToken, sessionStorage.getItem("refresh_token")]') == [None, None]
    with services.users.client(headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.get("/me").status_code == 401
    problem = page.run("return client.request(`${client.users}/me`).then(() => null, (problem) => problem)")
    assert problem["code"] == "not-authenticated"


def test_a_revoked_session_is_reported(services: Services, page: Frontend) -> None:
    account = services.sign_up(password=PASSWORD)
    page.log_in(account.username)
    with services.users.client(headers=account.bearer) as client:
        assert client.post("/logout-all").status_code == 204
    problem = page.run("return client.request(`${client.users}/me`).then(() => null, (problem) => problem)")
    assert problem["code"] == "session-revoked"


def test_the_list_follows_relative_links(services: Services, page: Frontend) -> None:
    owner = services.sign_up(password=PASSWORD)
    created = [services.create_product(owner)["id"] for _ in range(5)]
    listed = page.run(
        """const ids = [];
        const list = client.list(`${client.products}/products?limit=2&owner_id=${it}`);
        for await (const product of list) ids.push(product.id);
        return ids;""",
        owner.id,
    )
    assert listed == created
    assert page.complaints.errors == []


def test_a_change_that_was_overtaken_is_made_again(services: Services, page: Frontend) -> None:
    owner = services.sign_up(password=PASSWORD)
    product = services.create_product(owner)
    page.log_in(owner.username)

    def overtake() -> None:
        with services.products.client(headers=owner.bearer) as client:
            assert client.put(f"/products/{product['id']}", json={"category": "light"}).status_code == 200

    page.page.expose_function("overtake", overtake)
    changed = page.run(
        """let first = true;
        const request = client.request.bind(client);
        client.request = async (url, options, mayRefresh) => {
          if (options?.method === "PUT" && first) { first = false; await overtake(); }
          return request(url, options, mayRefresh);
        };
        return client.change(it, (product) => ({ ...product, quantity: product.quantity + 1 }));""",
        product["id"],
    )
    assert (changed["category"], changed["quantity"]) == ("light", product["quantity"] + 1)
    assert changed["version"] == product["version"] + 2
    assert page.complaints.refusals == [("PUT", f"/products/{product['id']}", 412)]
    assert page.complaints.errors == []


def test_the_refresh_token_cookie_is_out_of_reach_of_scripts(
    frontend: int, open_page: OpenPage, tmp_path: Path
) -> None:
    with running_services(tmp_path, REFRESH_TOKEN_COOKIE="true") as services:
        account = services.sign_up(password=PASSWORD)
        page = open_page()
        complaints = Complaints(page)
        users = services.users.url.replace("127.0.0.1", "localhost")
        page.goto(f"http://localhost:{frontend}/")
        send = """async ([url, body]) => {
          const headers = body ? { "Content-Type": "application/json" } : {};
          const response = await fetch(url, { method: "POST", credentials: "include", headers, body });
          return [response.status, await response.json(), document.cookie];
        }"""
        credentials = json.dumps({"username": account.username, "password": PASSWORD})
        for url, body in ((f"{users}/login", credentials), (f"{users}/refresh", None), (f"{users}/refresh", None)):
            status, content, cookies = page.evaluate(send, [url, body])
            assert (status, cookies) == (200, "")
            assert "refresh_token" not in content
        assert (complaints.errors, complaints.refusals) == ([], [])
        [cookie] = page.context.cookies([f"{users}/refresh"])
        assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
        # localhost and 127.0.0.1 are different sites, so the browser keeps the cookie back.
        page.goto(f"http://127.0.0.1:{frontend}/")
        assert page.evaluate(send, [f"{users}/refresh", None])[0] == 401
