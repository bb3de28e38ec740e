"""Optimistic locking: `ETag`, `If-Match` and `If-None-Match`."""

import asyncio

import httpx
import pytest

from testkit.products import DRAFT, bearer, create
from testkit.user_service_stub import ADA, BOB


async def send(
    client: httpx.AsyncClient, method: str, condition: str | None, header: str = "If-Match"
) -> httpx.Response:
    """A change by the owner; POST adjusts the stock."""
    headers = bearer(ADA) if condition is None else {**bearer(ADA), header: condition}
    path, body = ("/products/1/stock", {"delta": 1, "reason": "found"}) if method == "POST" else ("/products/1", {})
    if method in ("PUT", "PATCH"):
        body = {"name": "Desk lamp"}
    return await client.request(method, path, json=None if method == "DELETE" else body, headers=headers)


async def test_every_response_has_the_etag_of_its_version(client: httpx.AsyncClient) -> None:
    created = await client.post("/products", json=DRAFT, headers=bearer(ADA))
    tags = [created.headers["etag"]]
    for quantity in (4, 5):
        answer = await client.put("/products/1", json={"quantity": quantity}, headers=bearer(ADA))
        tags.append(answer.headers["etag"])
    shown = await client.get("/products/1")
    assert [*tags, shown.headers["etag"]] == ['"1"', '"2"', '"3"', '"3"']
    assert shown.json()["version"] == 3


async def test_empty_change_keeps_the_etag(client: httpx.AsyncClient) -> None:
    await create(client)
    answer = await client.put("/products/1", json={"name": DRAFT["name"], "price": "19.990"}, headers=bearer(ADA))
    assert answer.headers["etag"] == '"1"'


@pytest.mark.parametrize("condition", ['"1"', '"7", "1"', 'W/"1"', '"a,b" ,\tW/"1"', "*"])
async def test_matching_if_none_match_is_a_304_without_body(client: httpx.AsyncClient, condition: str) -> None:
    await create(client)
    for method in ("GET", "HEAD"):
        answer = await client.request(method, "/products/1", headers={"If-None-Match": condition})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')


@pytest.mark.parametrize("condition", ['"2"', '"01"', '"x"', '""'])
async def test_other_if_none_match_returns_the_product(client: httpx.AsyncClient, condition: str) -> None:
    await create(client)
    assert (await client.get("/products/1", headers={"If-None-Match": condition})).json()["id"] == 1


@pytest.mark.parametrize("condition", ['"1"', "*", '"9", "1"', None])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_matching_if_match_allows_the_change(
    client: httpx.AsyncClient, method: str, condition: str | None
) -> None:
    await create(client)
    assert (await send(client, method, condition)).is_success


@pytest.mark.parametrize("condition", ['"2"', 'W/"1"', '""', '"1x"'])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_other_if_match_is_a_412_and_changes_nothing(
    client: httpx.AsyncClient, method: str, condition: str
) -> None:
    product = await create(client)
    answer = await send(client, method, condition)
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition-failed")
    assert answer.headers["etag"] == '"1"'
    assert (await client.get("/products/1")).json() == product


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_weak_if_match_of_the_current_version_says_why_it_never_matches(
    client: httpx.AsyncClient, method: str
) -> None:
    await create(client)
    for condition, explained in (('W/"1"', True), ('"7", W/"1"', True), ('W/"7"', False)):
        detail = (await send(client, method, condition)).json()["detail"]
        assert ("A proxy that compresses responses may have weakened it" in detail) is explained
        assert ("has changed" in detail) is not explained


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_matching_if_none_match_of_a_change_is_a_412_and_changes_nothing(
    client: httpx.AsyncClient, method: str
) -> None:
    product = await create(client)
    for condition in ("*", " * ", '"1"', 'W/"1"', '"7", "1"', 'W/"7" , W/"1"'):
        answer = await send(client, method, condition, "If-None-Match")
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition-failed"), condition
        assert answer.json()["detail"].startswith("If-None-Match matches the current version. Nothing was changed.")
        assert answer.headers["etag"] == '"1"'
    assert (await client.get("/products/1")).json() == product
    assert len((await client.get("/products/1/history", headers=bearer(ADA))).json()) == 1


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_other_if_none_match_allows_the_change(client: httpx.AsyncClient, method: str) -> None:
    await create(client)
    assert (await send(client, method, '"2", W/"7", "x"', "If-None-Match")).is_success


async def test_if_none_match_belongs_to_an_idempotent_request(client: httpx.AsyncClient) -> None:
    await create(client)
    headers = {**bearer(ADA), "Idempotency-Key": "a"}
    statuses = []
    for condition in ({"If-None-Match": '"7"'}, {"If-None-Match": '"7"'}, {"If-None-Match": "*"}, {}):
        answer = await client.post(
            "/products/1/stock", json={"delta": 1, "reason": "found"}, headers={**headers, **condition}
        )
        statuses.append(answer.status_code)
    assert statuses == [200, 200, 422, 422]


@pytest.mark.parametrize("condition", ["1", "'1'", '"1', '"1" "2"', '"1",', "*, *", ""])
async def test_malformed_condition_is_invalid(client: httpx.AsyncClient, condition: str) -> None:
    await create(client)
    for header in ("If-Match", "If-None-Match"):
        answer = await send(client, "PUT", condition, header)
        assert answer.status_code == 422
        assert [error["parameter"].lower() for error in answer.json()["errors"]] == [header.lower()]


async def test_if_match_can_span_several_header_lines(client: httpx.AsyncClient) -> None:
    await create(client)
    for first, second, status in (("9", "1", 200), ("2", "9", 200), ("9", "8", 412)):
        lines = [("If-Match", f'"{first}"'), ("If-Match", f'"{second}"'), *bearer(ADA).items()]
        assert (await client.put("/products/1", json={"name": f"Lamp {first}"}, headers=lines)).status_code == status


async def test_if_match_is_checked_after_ownership_and_before_conflicts(client: httpx.AsyncClient) -> None:
    await create(client, sku="A")
    await create(client, sku="B")
    headers = {"If-Match": '"9"'}
    taken = {"sku": "B"}
    assert (await client.put("/products/9", json=taken, headers={**bearer(BOB), **headers})).status_code == 404
    assert (await client.put("/products/1", json=taken, headers={**bearer(BOB), **headers})).status_code == 403
    assert (await client.put("/products/1", json=taken, headers={**bearer(ADA), **headers})).status_code == 412
    assert (await client.put("/products/1", json=taken, headers=bearer(ADA))).status_code == 409


async def test_one_of_ten_concurrent_writers_wins(client: httpx.AsyncClient) -> None:
    await create(client)
    answers = await asyncio.gather(
        *(
            client.put("/products/1", json={"name": f"Lamp {n}"}, headers={**bearer(ADA), "If-Match": '"1"'})
            for n in range(10)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9
    assert {answer.headers["etag"] for answer in answers} == {'"2"'}
    [winner] = [answer.json() for answer in answers if answer.status_code == 200]
    assert (await client.get("/products/1")).json() == winner


async def test_concurrent_change_and_deletion_do_not_both_succeed(client: httpx.AsyncClient) -> None:
    await create(client)
    answers = await asyncio.gather(send(client, "PUT", '"1"'), send(client, "DELETE", '"1"'))
    statuses = [answer.status_code for answer in answers]
    assert statuses in ([200, 412], [404, 204])
