"""Cursors of the product list: what they contain, and how they are validated."""

import random
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from chassis.http.paging import read_cursor, write_cursor
from chassis.ids import LARGEST_ID
from testkit.product_list import Json, cursor_of, expected, ids, mistakes, pages
from testkit.products import bearer, product, store
from testkit.user_service_stub import ADA


class TestCursor:
    QUERY: Json = {"sort": "-price", "q": "l", "min_price": "1", "in_stock": "true", "limit": 2}  # noqa: RUF012

    async def test_parameters_of_the_cursor_can_be_repeated(
        self, client: httpx.AsyncClient, everything: list[Json]
    ) -> None:
        cursor = await cursor_of(client, **self.QUERY)
        wanted = expected(everything, self.QUERY)
        again = {"cursor": cursor, **self.QUERY, "min_price": "1.00"}
        assert ids(await client.get("/products", params=again)) == wanted[2:4]
        rest = await client.get("/products", params={"cursor": cursor, "limit": 100, "count": "true"})
        assert (ids(rest), rest.headers["x-total-count"]) == (wanted[2:], str(len(wanted)))

    async def test_default_order_is_by_id(self, client: httpx.AsyncClient, everything: list[Json]) -> None:
        cursor = await cursor_of(client, limit=2)
        for sort in ("", "&sort=id"):
            assert len(ids(await client.get(f"/products?cursor={cursor}{sort}"))) == 20
        assert mistakes(await client.get("/products", params={"cursor": cursor, "sort": "-id"})) == ["cursor"]
        cursor = await cursor_of(client, limit=2, sort="id")
        assert len(ids(await client.get("/products", params={"cursor": cursor}))) == 20

    @pytest.mark.parametrize(
        "other",
        [
            *({"sort": sort} for sort in ("price", "id", "-id", "-name")),
            *({"q": "m"}, {"min_price": "1.01"}, {"in_stock": "false"}),
            *({"max_price": "100"}, {"currency": "USD"}, {"category": "light"}, {"owner_id": ["1", "2"]}),
            {"skip": "0"},
        ],
        ids=str,
    )
    async def test_conflicting_parameters_are_rejected(
        self, client: httpx.AsyncClient, everything: list[Json], other: Json
    ) -> None:
        cursor = await cursor_of(client, **self.QUERY)
        answer = await client.get("/products", params={"cursor": cursor, **other})
        assert mistakes(answer) == ["cursor"]
        assert next(iter(other)) in answer.json()["errors"][0]["detail"]

    async def test_cursor_keeps_all_filters(self, client: httpx.AsyncClient, database: Engine) -> None:
        query: Json = {"sort": "name", "q": "ß 💡", "min_price": "1", "max_price": "0099.5", "currency": ["USD", "EUR"]}
        query |= {"category": "ä' OR 1=1", "in_stock": "true", "owner_id": str(LARGEST_ID)}
        query |= {"updated_since": "2026-01-01T02:00:00.000000+02:00"}
        matching = {"name": "Straße ss", "category": "ä' OR 1=1", "owner_id": LARGEST_ID, "quantity": 1}
        stored = store(database, (product(**matching) for _ in range(3)))
        store(database, [product()])
        answers = await pages(client, **query, limit=1)
        assert [each for answer in answers for each in ids(answer)] == stored

    async def test_cursor_of_a_deleted_product_still_works(
        self, client: httpx.AsyncClient, everything: list[Json]
    ) -> None:
        owned = {"owner_id": 1, "sort": "-name"}
        wanted = expected(everything, {"owner_id": "1", "sort": "-name"})
        cursor = await cursor_of(client, **owned, limit=2)
        for product_id in wanted[:2]:
            assert (await client.delete(f"/products/{product_id}", headers=bearer(ADA))).status_code == 204
        assert ids(await client.get("/products", params={"cursor": cursor})) == wanted[2:22]

    async def test_longest_query_and_name_fit_into_a_cursor(self, client: httpx.AsyncClient, database: Engine) -> None:
        name, category = "𝟘𐐨" * 127, "𐐨" * 100
        store(database, (product(name=name, category=category) for _ in range(3)))
        answers = await pages(client, sort="-name", q="0𐐨" * 50 + " 0𐐨" * 33, category=category, limit=1)
        assert [each for answer in answers for each in ids(answer)] == [3, 2, 1]
        assert len(answers[0].headers["link"]) < 8_000

    async def test_corrupted_cursor_is_rejected(self, client: httpx.AsyncClient, everything: list[Json]) -> None:
        cursor = await cursor_of(client, **self.QUERY)
        chance = random.Random(7)
        for _ in range(50):
            place = chance.randrange(len(cursor) - 1)
            other = chance.choice([each for each in "AZaz09-_" if each != cursor[place]])
            broken = chance.choice([cursor[:place], cursor[:place] + other + cursor[place + 1 :], cursor[place + 1 :]])
            assert mistakes(await client.get("/products", params={"cursor": broken})) == ["cursor"]

    FORGED: tuple[Any, ...] = (
        *(None, 7, "x", [], [1], True, {}, {"after": None}, {"after": 7}, {"after": []}, {"after": "7"}, {"after": {}}),
        *({"after": [place]} for place in (0, -1, 2**63, 10**400, "1", 1.0, 1.5, True, None, [1])),
        *({"after": [1, 1]}, {"after": [1], "x": 1}, {"after": [1], "limit": 5}, {"after": [1], "cursor": "x"}),
        *({"after": [1], "sort": sort} for sort in ("sku", "words", "name_key", 1, "id; --", ["id"])),
        *(
            {"sort": "name", "after": place}
            for place in (["a"], [1, 1], ["a", 0], ["\x00", 1], ["a" * 256, 1], [None, 1])
        ),
        *(
            {"sort": "price", "after": [amount, 1]}
            for amount in ("", "1e9", "-1", "1" * 11, 1.5, True, None, 10**10, "NaN")
        ),
        *({"sort": "quantity", "after": [number, 1]} for number in (-1, 2**31, 2**63, 1.0, "1", True, None)),
        *(
            {"sort": "-created_at", "after": [moment, 1]}
            for moment in (-1, 2**63, 10**30, "2026-01-01T00:00:00Z", 1.5, True)
        ),
        *({"sort": "updated_at", "after": [moment, 1]} for moment in (253402214400000001, None, "1")),
        *({"after": [1], **filters} for filters in ({"q": "*"}, {"q": "a\x00"}, {"q": 1}, {"q": "a" * 201})),
        *(
            {"after": [1], **filters}
            for filters in ({"owner_id": [0]}, {"owner_id": ["1"]}, {"owner_id": [True]}, {"owner_id": 1})
        ),
        *(
            {"after": [1], **filters}
            for filters in ({"min_price": -1}, {"min_price": "2", "max_price": "1"}, {"max_price": 1.5})
        ),
        *(
            {"after": [1], **filters}
            for filters in ({"in_stock": 1}, {"in_stock": "yes"}, {"currency": ["usd"]}, {"category": ["a\u200b"]})
        ),
    )

    async def test_forged_cursor_is_validated(self, client: httpx.AsyncClient) -> None:
        for content in self.FORGED:
            answer = await client.get("/products", params={"cursor": write_cursor(content)})
            assert mistakes(answer) == ["cursor"], content

    @pytest.mark.parametrize(
        "content",
        [
            {"sort": "name", "after": ["", 1]},
            {"sort": "-name", "after": ["\U0010ffff" * 255, LARGEST_ID]},
            {"sort": "price", "after": ["0", 1]},
            {"sort": "-price", "after": ["9999999999.9999", LARGEST_ID]},
            {"sort": "-quantity", "after": [2**31 - 1, LARGEST_ID]},
            {"sort": "created_at", "after": [0, 1]},
            {"sort": "-updated_at", "after": [253402214400000000, LARGEST_ID]},
        ],
        ids=str,
    )
    async def test_cursor_at_the_limits_returns_all_products(
        self, client: httpx.AsyncClient, everything: list[Json], content: Any
    ) -> None:
        answer = await client.get("/products", params={"cursor": write_cursor(content), "limit": 100})
        assert ids(answer) == expected(everything, {"sort": content["sort"]})

    async def test_cursor_contains_only_query_and_position(
        self, client: httpx.AsyncClient, everything: list[Json]
    ) -> None:
        content = read_cursor(await cursor_of(client, **self.QUERY))
        second = everything[expected(everything, self.QUERY)[1] - 1]
        price, product_id = content.pop("after")
        assert (Decimal(price), product_id) == (Decimal(second["price"]), second["id"])
        assert content == {**{name: value for name, value in self.QUERY.items() if name != "limit"}, "in_stock": True}
