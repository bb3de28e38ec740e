"""Responses with tokens or personal data are not stored by any cache."""

from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from testkit.users import PASSWORD, an_admin

WRONG = {"Authorization": "Bearer wrong"}
LOGIN = {"username": "chief", "password": PASSWORD}


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "/register", {"json": {"username": "ada", "password": PASSWORD}}, 201),
        ("POST", "/register", {"json": LOGIN}, 409),
        ("POST", "/login", {"json": LOGIN}, 200),
        ("POST", "/login", {"data": LOGIN}, 200),
        ("POST", "/login", {"json": {**LOGIN, "password": "wrong"}}, 401),
        ("POST", "/login", {"data": {**LOGIN, "password": "wrong"}}, 400),
        ("POST", "/login", {"content": b"x"}, 415),
        ("POST", "/refresh", {"json": {"refresh_token": "TOKEN"}}, 200),
        ("POST", "/refresh", {"json": {"refresh_token": "x"}}, 401),
        ("POST", "/validate-token", {"json": {"token": "TOKEN"}}, 200),
        ("POST", "/validate-token", {"json": {}}, 422),
        ("GET", "/me", {}, 200),
        ("GET", "/me", {"headers": WRONG}, 401),
        ("GET", "/me?x=1", {}, 422),
        ("GET", "/sessions", {}, 200),
        ("GET", "/users", {}, 200),
        ("GET", "/users/1/sessions", {}, 200),
        ("GET", "/users/999", {}, 404),
        ("POST", "/me/password", {"json": {"current_password": "wrong", "new_password": "x"}}, 422),
        ("POST", "/logout", {}, 204),
    ],
)
async def test_no_cache_may_store_it(
    client: httpx.AsyncClient, database: Engine, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    root = await an_admin(client, database)
    body = options.get("json")
    if body:
        options = {"json": {name: root.refresh_token if value == "TOKEN" else value for name, value in body.items()}}
    answer = await client.request(method, path, **{"headers": root.headers, **options})
    assert (answer.status_code, answer.headers.get_list("cache-control")) == (status, ["no-store"])
