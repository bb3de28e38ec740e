"""The tour in Swagger UI, on both services."""

from testkit.processes import Services
from tests.browser.conftest import OpenPage
from tests.browser.swagger import SwaggerPage

ADA = {"username": "ada", "password": "correct horse battery staple"}
PRODUCT = {"name": "Desk lamp", "price": "19.99", "quantity": 3}


def test_the_whole_tour(services: Services, open_page: OpenPage) -> None:
    users = SwaggerPage(open_page(), services.users.url)
    assert users.execute("POST", "/register", ADA)[0] == 201
    users.authorize(**ADA)
    status, me = users.execute("GET", "/me")
    assert (status, me["username"]) == (200, "ada")

    products = SwaggerPage(open_page(), services.products.url)
    products.authorize(**ADA)
    status, product = products.execute("POST", "/products", PRODUCT)
    assert (status, product["owner_id"]) == (201, me["id"])
    one = {"product_id": str(product["id"])}
    first = {**one, "If_header_Match": '"1"'}
    status, changed = products.execute("PUT", "/products/{product_id}", {**product, "price": "17.99"}, **first)
    assert (status, changed["price"], changed["version"]) == (200, "17.99", 2)
    assert products.execute("PUT", "/products/{product_id}", {"price": "1"}, **first)[0] == 412
    assert products.execute("GET", "/products/{product_id}", **one)[1] == changed
    assert products.execute("DELETE", "/products/{product_id}", **one, If_header_Match='"2"')[0] == 204
    assert products.execute("GET", "/products/{product_id}", **one)[0] == 404

    # Each page has logged in for itself; this revokes both sessions.
    assert users.execute("POST", "/logout-all")[0] == 204
    assert users.execute("GET", "/me")[0] == 401
    assert products.execute("POST", "/products", PRODUCT)[0] == 401

    path = f"/products/{product['id']}"
    assert users.complaints.errors == []
    assert users.complaints.refusals == [("GET", "/me", 401)]
    assert products.complaints.errors == []
    assert products.complaints.refusals == [("PUT", path, 412), ("GET", path, 404), ("POST", "/products", 401)]
