"""Entity tags, and that nobody's change is lost who uses them."""

import asyncio

import httpx
import pytest

from testkit.products import DRAFT, bearer, create
from testkit.user_service_stub import ADA, BOB

MERGE_PATCH = "application/merge-patch+json"


class TestEntityTags:
    async def test_every_answer_with_a_product_has_the_tag_of_its_version(self, client: httpx.AsyncClient) -> None:
        created = await client.post("/products", json=DRAFT, headers=bearer(ADA))
        tags = [created.headers["etag"]]
        for quantity in (4, 5):
            answer = await client.put("/products/1", json={"quantity": quantity}, headers=bearer(ADA))
            tags.append(answer.headers["etag"])
        shown = await client.get("/products/1")
        assert [*tags, shown.headers["etag"]] == ['"1"', '"2"', '"3"', '"3"']
        assert shown.json()["version"] == 3

    async def test_what_changes_nothing_keeps_the_tag(self, client: httpx.AsyncClient) -> None:
        await create(client)
        answer = await client.put("/products/1", json={"name": DRAFT["name"], "price": "19.990"}, headers=bearer(ADA))
        assert answer.headers["etag"] == '"1"'

    @pytest.mark.parametrize("condition", ['"1"', '"7", "1"', 'W/"1"', '"a,b" ,\tW/"1"', "*"])
    async def test_a_client_that_has_the_version_hears_304_without_a_body(
        self, client: httpx.AsyncClient, condition: str
    ) -> None:
        await create(client)
        for method in ("GET", "HEAD"):
            answer = await client.request(method, "/products/1", headers={"If-None-Match": condition})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')

    @pytest.mark.parametrize("condition", ['"2"', '"01"', '"x"', '""'])
    async def test_a_client_that_has_another_version_gets_the_product(
        self, client: httpx.AsyncClient, condition: str
    ) -> None:
        await create(client)
        assert (await client.get("/products/1", headers={"If-None-Match": condition})).json()["id"] == 1


class TestIfMatch:
    @pytest.mark.parametrize("condition", ['"1"', "*", '"9", "1"', None])
    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
    async def test_a_version_that_matches_is_changed(
        self, client: httpx.AsyncClient, method: str, condition: str | None
    ) -> None:
        await create(client)
        assert (await send(client, method, condition)).is_success

    @pytest.mark.parametrize("condition", ['"2"', 'W/"1"', '""', '"1x"'])
    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
    async def test_any_other_is_left_as_it_is_and_told(
        self, client: httpx.AsyncClient, method: str, condition: str
    ) -> None:
        product = await create(client)
        answer = await send(client, method, condition)
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition-failed")
        assert answer.headers["etag"] == '"1"'
        assert (await client.get("/products/1")).json() == product

    @pytest.mark.parametrize("condition", ["1", "'1'", '"1', '"1" "2"', '"1",', "*, *", ""])
    async def test_what_is_no_condition_is_invalid(self, client: httpx.AsyncClient, condition: str) -> None:
        await create(client)
        answer = await send(client, "PUT", condition)
        assert answer.status_code == 422
        assert [error["parameter"].lower() for error in answer.json()["errors"]] == ["if-match"]

    async def test_a_condition_may_be_spread_over_several_lines(self, client: httpx.AsyncClient) -> None:
        await create(client)
        for first, second, status in (("9", "1", 200), ("2", "9", 200), ("9", "8", 412)):
            lines = [("If-Match", f'"{first}"'), ("If-Match", f'"{second}"'), *bearer(ADA).items()]
            assert (
                await client.put("/products/1", json={"name": f"Lamp {first}"}, headers=lines)
            ).status_code == status

    async def test_it_comes_after_who_may_and_before_a_conflict(self, client: httpx.AsyncClient) -> None:
        await create(client, sku="A")
        await create(client, sku="B")
        headers = {"If-Match": '"9"'}
        taken = {"sku": "B"}
        assert (await client.put("/products/9", json=taken, headers={**bearer(BOB), **headers})).status_code == 404
        assert (await client.put("/products/1", json=taken, headers={**bearer(BOB), **headers})).status_code == 403
        assert (await client.put("/products/1", json=taken, headers={**bearer(ADA), **headers})).status_code == 412
        assert (await client.put("/products/1", json=taken, headers=bearer(ADA))).status_code == 409

    async def test_of_ten_writers_who_saw_the_same_version_one_wins(self, client: httpx.AsyncClient) -> None:
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

    async def test_a_change_and_a_deletion_at_once_leave_one(self, client: httpx.AsyncClient) -> None:
        await create(client)
        answers = await asyncio.gather(send(client, "PUT", '"1"'), send(client, "DELETE", '"1"'))
        statuses = [answer.status_code for answer in answers]
        assert statuses in ([200, 412], [404, 204])


class TestMergePatch:
    @pytest.mark.parametrize("media_type", [MERGE_PATCH, "application/json", f"{MERGE_PATCH}; charset=utf-8"])
    async def test_it_sets_what_is_sent_and_clears_with_null(self, client: httpx.AsyncClient, media_type: str) -> None:
        await create(client, sku="A", category="light")
        answer = await client.patch(
            "/products/1",
            content='{"price": 20.5, "sku": null}',
            headers={**bearer(ADA), "Content-Type": media_type},
        )
        assert answer.status_code == 200
        product = answer.json()
        assert (product["price"], product["sku"], product["category"]) == ("20.50", None, "light")

    @pytest.mark.parametrize(
        "media_type", ["application/json-patch+json", "text/plain", "application/x-www-form-urlencoded"]
    )
    async def test_another_media_type_is_not_read(self, client: httpx.AsyncClient, media_type: str) -> None:
        await create(client)
        headers = {**bearer(ADA), "Content-Type": media_type}
        assert (await client.patch("/products/1", content="{}", headers=headers)).status_code == 415

    async def test_a_merge_patch_is_for_patch_alone(self, client: httpx.AsyncClient) -> None:
        await create(client)
        headers = {**bearer(ADA), "Content-Type": MERGE_PATCH}
        assert (await client.put("/products/1", content="{}", headers=headers)).status_code == 415

    @pytest.mark.parametrize("field", ["name", "price", "currency", "quantity"])
    async def test_null_is_invalid_where_nothing_may_be_empty(self, client: httpx.AsyncClient, field: str) -> None:
        await create(client)
        answer = await client.patch("/products/1", json={field: None}, headers=bearer(ADA))
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{field}"]


async def send(client: httpx.AsyncClient, method: str, condition: str | None) -> httpx.Response:
    """A change by the owner; POST is one of the stock."""
    headers = bearer(ADA) if condition is None else {**bearer(ADA), "If-Match": condition}
    path, body = ("/products/1/stock", {"delta": 1, "reason": "found"}) if method == "POST" else ("/products/1", {})
    if method in ("PUT", "PATCH"):
        body = {"name": "Desk lamp"}
    return await client.request(method, path, json=None if method == "DELETE" else body, headers=headers)
