import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from product_service.main import create_app
from testkit.applications import running
from testkit.products import DRAFT, MakeSettings, bearer, create
from testkit.user_service_stub import ADA, BOB, UserServiceStub


async def change(client: httpx.AsyncClient, product_id: int, changes: object, token: str = ADA) -> httpx.Response:
    return await client.put(f"/products/{product_id}", json=changes, headers=bearer(token))


class TestCreate:
    async def test_a_new_product_is_answered_with_its_address(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/products", json=DRAFT, headers=bearer(ADA))
        assert answer.status_code == 201
        product = answer.json()
        assert answer.headers["location"] == f"/products/{product['id']}"
        assert (await client.get(answer.headers["location"])).json() == product
        assert product["created_at"] == product["updated_at"]
        assert product["created_at"].endswith("Z")
        del product["created_at"], product["updated_at"]
        assert product == {
            "id": 1,
            "name": "Lamp",
            "description": None,
            "price": "19.99",
            "currency": "USD",
            "quantity": 3,
            "sku": None,
            "category": None,
            "owner_id": 1,
            "version": 1,
        }

    @pytest.mark.parametrize("price", ["19.99", '"19.99"', "1999e-2", "19.9900"])
    async def test_a_price_is_the_same_as_a_number_and_as_text(self, client: httpx.AsyncClient, price: str) -> None:
        answer = await client.post(
            "/products",
            content=f'{{"name": "Lamp", "quantity": 1, "price": {price}}}',
            headers={**bearer(ADA), "Content-Type": "application/json"},
        )
        assert answer.json()["price"] == "19.99"

    async def test_a_price_that_no_float_can_hold_is_kept(self, client: httpx.AsyncClient) -> None:
        assert (await create(client, price="9999999999.99"))["price"] == "9999999999.99"

    async def test_the_owner_is_the_caller(self, client: httpx.AsyncClient) -> None:
        assert (await create(client, ADA))["owner_id"] == 1
        assert (await create(client, BOB))["owner_id"] == 2

    @pytest.mark.parametrize(
        ("changes", "pointer"),
        [
            ({"name": ""}, "/name"),
            ({"name": "   "}, "/name"),
            ({"name": "x" * 256}, "/name"),
            ({"name": "a\x00b"}, "/name"),
            ({"name": "a\nb"}, "/name"),
            ({"name": None}, "/name"),
            ({"name": 7}, "/name"),
            ({"name": True}, "/name"),
            ({"description": "x" * 1001}, "/description"),
            ({"description": "a\x1bb"}, "/description"),
            ({"description": 7}, "/description"),
            ({"price": 0}, "/price"),
            ({"price": "0.00"}, "/price"),
            ({"price": -1}, "/price"),
            ({"price": None}, "/price"),
            ({"price": True}, "/price"),
            ({"price": "1e2"}, "/price"),
            ({"price": "1_0"}, "/price"),
            ({"price": "19.999"}, "/price"),
            ({"price": "12345678901"}, "/price"),
            ({"price": "1.5", "currency": "JPY"}, "/price"),
            ({"currency": "usd"}, "/currency"),
            ({"currency": "XAU"}, "/currency"),
            ({"currency": None}, "/currency"),
            ({"quantity": -1}, "/quantity"),
            ({"quantity": 2**31}, "/quantity"),
            ({"quantity": 1.5}, "/quantity"),
            ({"quantity": "3"}, "/quantity"),
            ({"quantity": True}, "/quantity"),
            ({"quantity": None}, "/quantity"),
            ({"sku": ""}, "/sku"),
            ({"sku": "x" * 65}, "/sku"),
            ({"category": ""}, "/category"),
            ({"category": "x" * 101}, "/category"),
            ({"owner_id": 2}, "/owner_id"),
            ({"id": 7}, "/id"),
            ({"version": 7}, "/version"),
        ],
        ids=str,
    )
    async def test_what_is_wrong_is_named_and_nothing_is_stored(
        self, client: httpx.AsyncClient, changes: dict[str, Any], pointer: str
    ) -> None:
        answer = await client.post("/products", json={**DRAFT, **changes}, headers=bearer(ADA))
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
        assert (await client.get("/products")).json() == []

    @pytest.mark.parametrize("price", ["1e400", "-1e400", "1E-400", "19.990000000000000000001"])
    async def test_a_number_beyond_all_bounds_is_invalid(self, client: httpx.AsyncClient, price: str) -> None:
        content = f'{{"name": "Lamp", "quantity": 1, "price": {price}}}'
        headers = {**bearer(ADA), "Content-Type": "application/json"}
        assert (await client.post("/products", content=content, headers=headers)).status_code == 422

    @pytest.mark.parametrize("price", ["NaN", "Infinity", "-Infinity", "1e99999999999999999999", "9" * 5000])
    async def test_what_is_no_number_of_json_is_malformed(self, client: httpx.AsyncClient, price: str) -> None:
        content = f'{{"name": "Lamp", "quantity": 1, "price": {price}}}'
        headers = {**bearer(ADA), "Content-Type": "application/json"}
        answer = await client.post("/products", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed-body")

    async def test_the_longest_of_everything_fits(self, client: httpx.AsyncClient) -> None:
        longest: dict[str, Any] = {
            "name": "💡" * 255,
            "description": "é\n" * 500,
            "price": "9999999999.9999",
            "currency": "CLF",
            "quantity": 2**31 - 1,
            "sku": "ß" * 64,
            "category": "ж" * 100,
        }
        product = await create(client, **longest)
        assert {name: product[name] for name in longest} == longest

    async def test_a_sku_is_taken_until_its_product_is_deleted(self, client: httpx.AsyncClient) -> None:
        first = await create(client, sku="L-1")
        taken = await client.post("/products", json={**DRAFT, "sku": "L-1"}, headers=bearer(BOB))
        assert (taken.status_code, taken.json()["code"]) == (409, "sku-taken")
        await client.delete(f"/products/{first['id']}", headers=bearer(ADA))
        assert (await create(client, BOB, sku="L-1"))["sku"] == "L-1"

    async def test_many_products_may_have_no_sku(self, client: httpx.AsyncClient) -> None:
        await create(client)
        await create(client)

    async def test_of_ten_at_once_one_gets_the_sku(self, client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(
            *(client.post("/products", json={**DRAFT, "sku": "L-1"}, headers=bearer(ADA)) for _ in range(10))
        )
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9


class TestRead:
    async def test_the_list_is_by_id_and_paged_with_links(self, client: httpx.AsyncClient) -> None:
        ids = [(await create(client))["id"] for _ in range(5)]
        seen: list[int] = []
        url: str | None = "/products?limit=2"
        pages = 0
        while url:
            answer = await client.get(url)
            assert answer.status_code == 200
            seen += [product["id"] for product in answer.json()]
            url = answer.links.get("next", {}).get("url")
            pages += 1
        assert (seen, pages) == (ids, 3)

    async def test_skip_and_limit_cut_out_a_part(self, client: httpx.AsyncClient) -> None:
        ids = [(await create(client))["id"] for _ in range(4)]
        assert [each["id"] for each in (await client.get("/products?skip=1&limit=2")).json()] == ids[1:3]
        assert (await client.get("/products?skip=10000")).json() == []

    async def test_twenty_are_answered_where_no_limit_is_given(self, client: httpx.AsyncClient) -> None:
        for _ in range(21):
            await create(client)
        assert len((await client.get("/products")).json()) == 20
        assert len((await client.get("/products?limit=100")).json()) == 21

    @pytest.mark.parametrize(
        "query",
        [
            "limit=0",
            "limit=101",
            "limit=x",
            "limit=1.0",
            "limit=",
            "limit=1_0",
            "skip=-1",
            "skip=10001",
            "skip=%201",
            "sku=x",
        ],
    )
    async def test_parameters_out_of_range_or_unknown_are_invalid(self, client: httpx.AsyncClient, query: str) -> None:
        answer = await client.get(f"/products?{query}")
        assert answer.status_code == 422
        assert [error["parameter"] for error in answer.json()["errors"]] == [query.partition("=")[0]]

    @pytest.mark.parametrize("product_id", [1, 2**63 - 1])
    async def test_a_product_that_is_not_there_is_not_found(self, client: httpx.AsyncClient, product_id: int) -> None:
        answer = await client.get(f"/products/{product_id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "product-not-found")

    @pytest.mark.parametrize("product_id", ["0", "-1", "x", "1.0", "1_0", str(2**63), "9" * 100, "%00", "1%0A", "٣"])
    async def test_what_is_no_id_is_invalid(self, client: httpx.AsyncClient, product_id: str) -> None:
        for method in ("GET", "DELETE"):
            answer = await client.request(method, f"/products/{product_id}", headers=bearer(ADA))
            assert answer.status_code == 422
            assert [error["parameter"] for error in answer.json()["errors"]] == ["product_id"]

    async def test_reading_needs_no_token_and_asks_nobody(
        self, client: httpx.AsyncClient, user_service: UserServiceStub
    ) -> None:
        user_service.stop()
        assert (await client.get("/products")).status_code == 200
        assert (await client.get("/products/1")).status_code == 404
        assert user_service.requests == []


class TestChange:
    async def test_the_fields_sent_are_set_and_the_others_stay(self, client: httpx.AsyncClient) -> None:
        before = await create(client, sku="L-1", category="light", description="bright")
        answer = await change(client, before["id"], {"price": "5", "quantity": 0})
        assert answer.status_code == 200
        after = answer.json()
        assert after["updated_at"] > before["updated_at"]
        assert after == {
            **before,
            "price": "5.00",
            "quantity": 0,
            "version": before["version"] + 1,
            "updated_at": after["updated_at"],
        }
        assert (await client.get(f"/products/{before['id']}")).json() == after

    @pytest.mark.parametrize("field", ["description", "sku", "category"])
    async def test_null_clears_what_may_be_empty(self, client: httpx.AsyncClient, field: str) -> None:
        product = await create(client, **{field: "something"})
        answer = await change(client, product["id"], {field: None})
        assert (answer.status_code, answer.json()[field]) == (200, None)

    @pytest.mark.parametrize("field", ["name", "price", "currency", "quantity"])
    async def test_null_is_invalid_elsewhere(self, client: httpx.AsyncClient, field: str) -> None:
        product = await create(client)
        answer = await change(client, product["id"], {field: None})
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{field}"]

    async def test_nothing_sent_changes_nothing(self, client: httpx.AsyncClient) -> None:
        product = await create(client)
        assert (await change(client, product["id"], {})).json() == product
        assert (await change(client, product["id"], {"price": 19.99})).json() == product

    async def test_price_and_currency_are_checked_together_on_the_result(self, client: httpx.AsyncClient) -> None:
        product = await create(client, price="19.99")
        refused = await change(client, product["id"], {"currency": "JPY"})
        assert refused.status_code == 422
        assert [error["pointer"] for error in refused.json()["errors"]] == ["/price"]
        accepted = await change(client, product["id"], {"currency": "JPY", "price": 2000})
        assert (accepted.json()["price"], accepted.json()["currency"]) == ("2000", "JPY")

    async def test_a_sku_of_another_product_is_taken(self, client: httpx.AsyncClient) -> None:
        await create(client, sku="L-1")
        product = await create(client, sku="L-2")
        answer = await change(client, product["id"], {"sku": "L-1", "name": "Other"})
        assert (answer.status_code, answer.json()["code"]) == (409, "sku-taken")
        assert (await client.get(f"/products/{product['id']}")).json() == product

    async def test_changes_at_once_are_all_made(self, client: httpx.AsyncClient) -> None:
        product = await create(client)
        fields: list[dict[str, Any]] = [{"name": "Desk lamp"}, {"price": "7"}, {"quantity": 9}, {"category": "light"}]
        await asyncio.gather(*(change(client, product["id"], field) for field in fields))
        after = (await client.get(f"/products/{product['id']}")).json()
        expected = {"name": "Desk lamp", "price": "7.00", "quantity": 9, "category": "light"}
        assert {name: after[name] for name in expected} == expected
        assert after["version"] == product["version"] + 4


class TestDelete:
    async def test_a_deleted_product_is_gone(self, client: httpx.AsyncClient) -> None:
        product = await create(client)
        answer = await client.delete(f"/products/{product['id']}", headers=bearer(ADA))
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await client.get(f"/products/{product['id']}")).status_code == 404
        again = await client.delete(f"/products/{product['id']}", headers=bearer(ADA))
        assert (again.status_code, again.json()["code"]) == (404, "product-not-found")

    async def test_the_id_of_the_newest_is_not_used_again(self, client: httpx.AsyncClient) -> None:
        first = await create(client)
        await client.delete(f"/products/{first['id']}", headers=bearer(ADA))
        assert (await create(client))["id"] > first["id"]


class TestWhoMay:
    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    async def test_only_the_owner_may_change_or_delete(self, client: httpx.AsyncClient, method: str) -> None:
        product = await create(client, ADA)
        body = {"name": "Mine"} if method == "PUT" else None
        answer = await client.request(method, f"/products/{product['id']}", headers=bearer(BOB), json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "not-the-owner")
        assert (await client.get(f"/products/{product['id']}")).json() == product

    async def test_a_setting_lets_everybody_who_is_signed_in(self, make_settings: MakeSettings) -> None:
        async with running(create_app(make_settings(product_write_access="authenticated"))) as client:
            product = await create(client, ADA)
            assert (await change(client, product["id"], {"name": "Ours"}, BOB)).status_code == 200
            assert (await change(client, product["id"], {"name": "Ours"}, "nobody's")).status_code == 401

    PROTECTED = (("POST", "/products"), ("PUT", "/products/1"), ("DELETE", "/products/1"))

    @pytest.mark.parametrize(("method", "path"), PROTECTED)
    @pytest.mark.parametrize("authorization", [None, "", "Basic YWRhOng=", "Bearer", "Bearer a b"])
    async def test_without_a_bearer_token_it_is_a_401_and_nobody_is_asked(
        self,
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

    @pytest.mark.parametrize(("method", "path"), PROTECTED)
    async def test_a_token_that_is_not_valid_is_a_401_that_says_so(
        self, client: httpx.AsyncClient, user_service: UserServiceStub, method: str, path: str
    ) -> None:
        answer = await client.request(method, path, headers=bearer("a-revoked-token"))
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid-token")
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert len(user_service.requests) == 1

    @pytest.mark.parametrize("token", ["x" * 8193, "ä", "a,b", '"quoted"', "=", "a=b"])
    async def test_what_cannot_be_a_token_is_refused_without_asking(
        self, client: httpx.AsyncClient, user_service: UserServiceStub, token: str
    ) -> None:
        headers = {b"Authorization": f"Bearer {token}".encode()}
        answer = await client.delete("/products/1", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid-token")
        assert user_service.requests == []

    @pytest.mark.parametrize(("method", "path"), PROTECTED)
    async def test_an_outage_of_the_user_service_is_a_503_and_never_a_401(
        self, client: httpx.AsyncClient, user_service: UserServiceStub, method: str, path: str
    ) -> None:
        user_service.stop()
        answer = await client.request(method, path, headers=bearer(ADA))
        assert (answer.status_code, answer.json()["code"]) == (503, "auth-unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert "www-authenticate" not in answer.headers

    async def test_each_protected_request_is_one_validation(
        self, client: httpx.AsyncClient, user_service: UserServiceStub
    ) -> None:
        product = await create(client)
        await change(client, product["id"], {"name": "Other"})
        await client.delete(f"/products/{product['id']}", headers=bearer(ADA))
        assert [token for token, _ in user_service.requests] == [ADA] * 3

    async def test_the_request_id_goes_along_to_the_user_service(
        self, client: httpx.AsyncClient, user_service: UserServiceStub
    ) -> None:
        await client.post("/products", json=DRAFT, headers={**bearer(ADA), "X-Request-ID": "my-request"})
        [(_, headers)] = user_service.requests
        assert headers["x-request-id"] == "my-request"
        assert not {"traceparent", "tracestate"} & set(headers)

    async def test_the_trace_goes_along_to_the_user_service_as_it_came(
        self, client: httpx.AsyncClient, user_service: UserServiceStub
    ) -> None:
        trace = {"traceparent": f"00-{'4b' * 16}-{'b7' * 8}-01", "tracestate": "rojo=00f067aa0ba902b7"}
        await client.post("/products", json=DRAFT, headers={**bearer(ADA), **trace})
        [(_, headers)] = user_service.requests
        assert {name: headers[name] for name in trace} == trace


class TestOrderOfRefusals:
    """400, 413, 415; then 401; then 422; then 404; then 403; then 409."""

    JSON = {"Content-Type": "application/json"}  # noqa: RUF012 - a constant

    @pytest.mark.parametrize(
        ("content", "content_type", "status"),
        [(b"{", "application/json", 400), (b"x" * 2_000_000, "application/json", 413), (b"x", "text/plain", 415)],
    )
    async def test_a_body_that_cannot_be_read_comes_before_a_missing_token(
        self, client: httpx.AsyncClient, content: bytes, content_type: str, status: int
    ) -> None:
        answer = await client.post("/products", content=content, headers={"Content-Type": content_type})
        assert answer.status_code == status

    async def test_a_missing_token_comes_before_what_is_invalid(self, client: httpx.AsyncClient) -> None:
        assert (await client.put("/products/x?y=1", json={"name": 7})).status_code == 401

    async def test_what_is_invalid_comes_before_a_product_that_is_not_there(self, client: httpx.AsyncClient) -> None:
        assert (await change(client, 99, {"name": 7})).status_code == 422

    async def test_a_product_that_is_not_there_comes_before_who_may(self, client: httpx.AsyncClient) -> None:
        assert (await change(client, 99, {"name": "Mine"}, BOB)).status_code == 404

    async def test_who_may_comes_before_a_conflict(self, client: httpx.AsyncClient) -> None:
        await create(client, sku="L-1")
        product = await create(client)
        assert (await change(client, product["id"], {"sku": "L-1"}, BOB)).status_code == 403


class TestHealth:
    async def test_it_tells_that_everything_answers(
        self, client: httpx.AsyncClient, user_service: UserServiceStub
    ) -> None:
        answer = await client.get("/health")
        assert answer.status_code == 200
        assert {**answer.json(), "version": "?"} == {
            "status": "ok",
            "service": "product-service",
            "version": "?",
            "database": "ok",
            "user_service": {"url": user_service.url, "status": "ok", "breaker": "closed", "last_success": None},
        }

    async def test_without_the_user_service_it_is_degraded_and_still_ready(
        self, client: httpx.AsyncClient, user_service: UserServiceStub
    ) -> None:
        user_service.stop()
        health = await client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["user_service"] == {
            "url": user_service.url,
            "status": "unavailable",
            "breaker": "closed",
            "last_success": None,
        }
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.get("/health/live")).status_code == 200

    async def test_it_tells_of_the_breaker_and_of_the_last_validation(
        self, client: httpx.AsyncClient, user_service: UserServiceStub
    ) -> None:
        await create(client)
        before = (await client.get("/health")).json()["user_service"]
        assert before["breaker"] == "closed"
        assert abs(datetime.now(UTC) - datetime.fromisoformat(before["last_success"])) < timedelta(seconds=10)
        user_service.answer = lambda _: (500, b"")
        answers = [await client.post("/products", json=DRAFT, headers=bearer(ADA)) for _ in range(6)]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "auth-unavailable")}
        # Nobody was asked on behalf of the last one, who is told when to come back.
        assert [answer.headers["retry-after"] for answer in answers] == ["2"] * 5 + ["1"]
        assert len(user_service.requests) == 6
        health = (await client.get("/health")).json()
        # It answers, and is of no use.
        assert (health["status"], health["user_service"]) == ("degraded", {**before, "breaker": "open"})
        assert (await client.get("/health/ready")).status_code == 200

    async def test_without_its_database_it_is_alive_and_not_ready(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        with database.begin() as connection:
            connection.execute(text("DROP TABLE alembic_version"))
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["code"]) == (503, "migrations-behind")
        assert (await client.get("/health/live")).status_code == 200
