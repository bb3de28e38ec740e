"""Authentication and authorization of writes."""

import httpx
import pytest

from product_service.main import create_app
from testkit.applications import running
from testkit.products import DRAFT, MakeSettings, bearer, create
from testkit.user_service_stub import ADA, BOB, UserServiceStub


async def change(client: httpx.AsyncClient, product_id: int, changes: object, token: str = ADA) -> httpx.Response:
    return await client.put(f"/products/{product_id}", json=changes, headers=bearer(token))


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_only_the_owner_can_change_or_delete(client: httpx.AsyncClient, method: str) -> None:
    product = await create(client, ADA)
    body = {"name": "Mine"} if method == "PUT" else None
    answer = await client.request(method, f"/products/{product['id']}", headers=bearer(BOB), json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "not-the-owner")
    assert (await client.get(f"/products/{product['id']}")).json() == product


async def test_write_access_setting_allows_any_authenticated_caller(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(product_write_access="authenticated"))) as client:
        product = await create(client, ADA)
        assert (await change(client, product["id"], {"name": "Ours"}, BOB)).status_code == 200
        assert (await change(client, product["id"], {"name": "Ours"}, "invalid")).status_code == 401


PROTECTED = (("POST", "/products"), ("PUT", "/products/1"), ("DELETE", "/products/1"))


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize("authorization", [None, "", "Basic YWRhOng=", "Bearer", "Bearer a b"])
async def test_missing_bearer_token_is_a_401_without_validation(
    client: httpx.AsyncClient,
    user_service: UserServiceStub,
    method: str,
    path: str,
    authorization: str | None,
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await client.request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "not-authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert user_service.requests == []


async def test_headers_of_a_gateway_are_ignored(client: httpx.AsyncClient, user_service: UserServiceStub) -> None:
    product = await create(client, ADA)
    path, asked = f"/products/{product['id']}", len(user_service.requests)
    claims = {"X-Auth-User-Id": str(product["owner_id"]), "X-Auth-Username": "ada", "X-Auth-Session-Id": "1"}
    claims["X-Auth-Roles"] = "user,admin"
    assert (await client.delete(path, headers=claims)).status_code == 401
    assert (await client.delete(path, headers=claims | bearer("a-revoked-token"))).status_code == 401
    answer = await client.delete(path, headers=claims | bearer(BOB))
    assert (answer.status_code, answer.json()["code"]) == (403, "not-the-owner")
    assert len(user_service.requests) == asked + 2


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_invalid_token_is_a_401(
    client: httpx.AsyncClient, user_service: UserServiceStub, method: str, path: str
) -> None:
    answer = await client.request(method, path, headers=bearer("a-revoked-token"))
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid-token")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert len(user_service.requests) == 1


@pytest.mark.parametrize("token", ["x" * 8193, "ä", "a,b", '"quoted"', "=", "a=b"])
async def test_malformed_token_is_a_401_without_validation(
    client: httpx.AsyncClient, user_service: UserServiceStub, token: str
) -> None:
    headers = {b"Authorization": f"Bearer {token}".encode()}
    answer = await client.delete("/products/1", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid-token")
    assert user_service.requests == []


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.alone
async def test_user_service_outage_is_a_503(
    client: httpx.AsyncClient, user_service: UserServiceStub, method: str, path: str
) -> None:
    user_service.stop()
    answer = await client.request(method, path, headers=bearer(ADA))
    assert (answer.status_code, answer.json()["code"]) == (503, "auth-unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert "www-authenticate" not in answer.headers


async def test_each_protected_request_validates_its_token_once(
    client: httpx.AsyncClient, user_service: UserServiceStub
) -> None:
    product = await create(client)
    await change(client, product["id"], {"name": "Other"})
    await client.delete(f"/products/{product['id']}", headers=bearer(ADA))
    assert [token for token, _ in user_service.requests] == [ADA] * 3


async def test_request_id_is_forwarded_to_the_user_service(
    client: httpx.AsyncClient, user_service: UserServiceStub
) -> None:
    await client.post("/products", json=DRAFT, headers={**bearer(ADA), "X-Request-ID": "my-request"})
    [(_, headers)] = user_service.requests
    assert headers["x-request-id"] == "my-request"
    assert not {"traceparent", "tracestate"} & set(headers)


async def test_trace_context_is_forwarded_to_the_user_service(
    client: httpx.AsyncClient, user_service: UserServiceStub
) -> None:
    trace = {"traceparent": f"00-{'4b' * 16}-{'b7' * 8}-01", "tracestate": "rojo=00f067aa0ba902b7"}
    await client.post("/products", json=DRAFT, headers={**bearer(ADA), **trace})
    [(_, headers)] = user_service.requests
    assert {name: headers[name] for name in trace} == trace
