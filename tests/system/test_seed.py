"""The seed command, run as a process against both services."""

import os
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from product_service.demo.seed import PASSWORD
from testkit import preloaded
from testkit.processes import Services, free_port, running_services


@pytest.fixture
def fresh_services(tmp_path: Path) -> Iterator[Services]:
    """New services, for tests that need empty databases."""
    with running_services(tmp_path) as services:
        yield services


@pytest.fixture
def foreign_server() -> Iterator[str]:
    """The URL of a server that is not one of the services."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"<html")

        def log_message(self, format: str, *arguments: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def seed(users_url: str, products_url: str) -> subprocess.CompletedProcess[str]:
    words = ["--users-url", users_url, "--products-url", products_url]
    return preloaded.run("product_service.demo.seed", words, Path.cwd(), os.environ)


def catalogue(services: Services) -> list[dict[str, Any]]:
    with services.products.client() as client:
        products: list[dict[str, Any]] = client.get("/products", params={"limit": 100}).json()
    return products


def error_of(seeded: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed seed prints."""
    assert seeded.returncode == 1
    (line,) = seeded.stderr.splitlines()
    assert line.startswith("seed: ")
    return line


def test_the_seed_creates_two_accounts_and_their_products(fresh_services: Services) -> None:
    services = fresh_services
    seeded = seed(services.users.url, services.products.url)
    assert (seeded.returncode, seeded.stderr) == (0, "")
    assert seeded.stdout.splitlines() == [
        "ada: 21 products created, 0 already exist",
        "grace: 20 products created, 0 already exist",
        f'Log in as ada or grace, with the password "{PASSWORD}".',
    ]

    products = catalogue(services)
    assert len(products) == 41
    assert {product["currency"] for product in products} == {"USD", "EUR", "JPY"}
    assert len({product["category"] for product in products}) > 5
    prices = {product["sku"]: product["price"] for product in products}
    assert (prices["CBL-C-1M"], prices["TEA-SEN-100"]) == ("9.99", "1620")
    for username, owned in {"ada": 21, "grace": 20}.items():
        token = services.log_in(username, PASSWORD)
        with services.users.client(headers={"Authorization": f"Bearer {token}"}) as client:
            account = client.get("/me").json()
        assert account["username"] == username
        assert [product["owner_id"] for product in products].count(account["id"]) == owned


def test_a_second_run_changes_nothing_and_a_third_restores_deleted_products(services: Services) -> None:
    seed(services.users.url, services.products.url)
    before = catalogue(services)

    again = seed(services.users.url, services.products.url)
    assert again.returncode == 0
    assert again.stdout.splitlines()[:2] == [
        "ada: 0 products created, 21 already exist",
        "grace: 0 products created, 20 already exist",
    ]
    assert catalogue(services) == before

    token = services.log_in("grace", PASSWORD)
    with services.products.client(headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.delete(f"/products/{before[-1]['id']}").status_code == httpx.codes.NO_CONTENT
    third = seed(services.users.url, services.products.url)
    assert third.stdout.splitlines()[1] == "grace: 1 products created, 19 already exist"


def test_an_existing_account_with_another_password_is_reported(fresh_services: Services) -> None:
    services = fresh_services
    services.sign_up("Ada", "a password of her own")
    line = error_of(seed(services.users.url, services.products.url))
    assert line == 'seed: The account "ada" already exists with a different password.'
    assert catalogue(services) == []


def test_an_unreachable_service_is_reported(services: Services) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert f"{nowhere}/register is unreachable" in error_of(seed(nowhere, services.products.url))
    assert f"{nowhere}/products is unreachable" in error_of(seed(services.users.url, nowhere))
    assert "nonsense/register is unreachable" in error_of(seed("nonsense", services.products.url))


def test_a_rejection_is_reported_with_its_reason(services: Services) -> None:
    error = error_of(seed(services.products.url, services.users.url))
    assert error.endswith("/register returned 404: There is no resource at this URL.")


def test_a_foreign_server_is_reported(services: Services, foreign_server: str) -> None:
    for urls in ((foreign_server, services.products.url), (services.users.url, foreign_server)):
        assert "returned 200 with an unexpected body" in error_of(seed(*urls))
