"""Limits on what a request can cost."""

import json

import httpx


async def test_a_small_body_cannot_cause_a_large_response(client: httpx.AsyncClient) -> None:
    content = json.dumps({str(number): 1 for number in range(1_000)})
    answer = await client.post("/register", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert len(answer.content) < 1000


async def test_a_response_lists_at_most_a_hundred_errors(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health", params={str(number): 1 for number in range(1000)})
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 100


async def test_two_authorization_headers_count_as_none(client: httpx.AsyncClient) -> None:
    answer = await client.get("/me", headers=[("Authorization", "Bearer a.b.c"), ("Authorization", "Bearer d.e.f")])
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
