"""`chassis.http.bearer`: the form of tokens in the Authorization header."""

import httpx
import pytest

from chassis.text import MAX_TOKEN_LENGTH
from testkit.library import client_of, make_app
from testkit.library_api import TOKEN, books, problem


@pytest.mark.parametrize(
    "header",
    [
        "Bearer abc",
        "bearer abc",
        "BEARER  abc",
        "Bearer abc ",
        "Bearer " + "a" * MAX_TOKEN_LENGTH,
        TOKEN["Authorization"],
    ],
)
async def test_a_bearer_token_is_accepted(client: httpx.AsyncClient, header: str) -> None:
    assert (await client.delete("/books/1", headers={"Authorization": header})).status_code == 204


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "abc", "Basic YTpi", "Bearerabc", "Bearer a b", "Token abc"]
)
async def test_a_malformed_authorization_header_is_a_401(client: httpx.AsyncClient, header: str | None) -> None:
    answer = await client.delete("/books/1", headers={} if header is None else {"Authorization": header})
    problem(answer, 401, "not-authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "token", ["a" * (MAX_TOKEN_LENGTH + 1), "a,b", '"abc"', "a=b", "=", "caf\u00e9", "{}", "a;b", "a:b", "a\\b", "<a>"]
)
async def test_a_malformed_token_is_an_invalid_token(client: httpx.AsyncClient, token: str) -> None:
    header = f"Bearer {token}".encode("latin-1")
    answer = await client.delete("/books/1", headers={b"Authorization": header})
    problem(answer, 401, "invalid-token")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_an_application_that_can_not_authenticate_blames_no_token() -> None:
    async with client_of(make_app(books())) as client:
        problem(await client.delete("/books/1", headers=TOKEN), 500, "internal-error")
