"""The product list, GET /products: order, filters and pages, compared with a reference model."""

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from chassis.http.paging import write_cursor
from chassis.ids import LARGEST_ID
from testkit.product_list import FIELDS, Json, cursor_of, expected, ids, mistakes, pages
from testkit.products import bearer, create, product, store
from testkit.user_service_stub import ADA


def several(*values: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3)


QUERIES = st.fixed_dictionaries(
    {"limit": st.sampled_from(["1", "7", "60", "100"])},
    optional={
        "sort": st.sampled_from([sign + field for field in FIELDS for sign in ("", "-")]),
        "q": st.sampled_from(
            ["lam", "LAMP", "läm", "strass", "键", "机", "a", "ada example", "1 2", "3 5 mm2", "or", "x"]
        ),
        "min_price": st.sampled_from(["0", "9.99", "9.990", "10"]),
        "max_price": st.sampled_from(["10", "10.0001", "9999999999.9999"]),
        "currency": several("USD", "EUR", "JPY"),
        "category": several("light", "Light", "ä' OR 1=1", "l"),
        "in_stock": st.sampled_from(["true", "false"]),
        "owner_id": several("1", "2", "3", str(LARGEST_ID)),
        "updated_since": st.sampled_from(
            ["2026-01-03T00:00:00Z", "2026-01-05t13:30:00.5+13:30", "2027-01-01T00:00:00Z"]
        ),
    },
)


@settings(
    max_examples=40,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(query=QUERIES)
async def test_all_pages_match_the_reference_model(
    client: httpx.AsyncClient, everything: list[Json], query: dict[str, Any]
) -> None:
    answers = await pages(client, **query, count="true")
    wanted = expected(everything, query)
    assert [each for answer in answers for each in ids(answer)] == wanted
    for answer in answers:
        assert answer.headers["x-total-count"] == str(len(wanted))
        assert ids(await client.get(answer.links["first"]["url"])) == wanted[: int(query["limit"])]


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("field", FIELDS)
async def test_pages_of_one_product_follow_every_order(
    client: httpx.AsyncClient, everything: list[Json], field: str, sign: str
) -> None:
    wanted = expected(everything, {"sort": sign + field})
    seen = [each for answer in await pages(client, sort=sign + field, limit=1) for each in ids(answer)]
    assert seen == wanted
    assert wanted != expected(everything, {"sort": "-id" if sign + field != "-id" else "id"})


async def test_list_is_sorted_by_id_and_paged_with_links(client: httpx.AsyncClient) -> None:
    created = [(await create(client))["id"] for _ in range(5)]
    seen: list[int] = []
    url: str | None = "/products?limit=2"
    page_count = 0
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200
        seen += [product["id"] for product in answer.json()]
        url = answer.links.get("next", {}).get("url")
        page_count += 1
    assert (seen, page_count) == (created, 3)


async def test_skip_and_limit_select_a_range(client: httpx.AsyncClient) -> None:
    created = [(await create(client))["id"] for _ in range(4)]
    assert [each["id"] for each in (await client.get("/products?skip=1&limit=2")).json()] == created[1:3]
    assert (await client.get("/products?skip=10000")).json() == []


async def test_default_limit_is_20(client: httpx.AsyncClient) -> None:
    for _ in range(21):
        await create(client)
    assert len((await client.get("/products")).json()) == 20
    assert len((await client.get("/products?limit=100")).json()) == 21


async def test_names_are_sorted_regardless_of_case_and_accents(client: httpx.AsyncClient, database: Engine) -> None:
    names = ["Zebra", "apple", "Äpfel", "Apfel 2", "zebra", "éclair", "Eclair", "机", "10", "9", " b"]
    store(database, (product(name=name) for name in names))
    found = (await client.get("/products?sort=name")).json()
    assert [each["name"] for each in found] == [
        *(" b", "10", "9", "Äpfel", "Apfel 2", "apple", "éclair", "Eclair", "Zebra", "zebra", "机")
    ]


async def test_empty_list_has_one_page(client: httpx.AsyncClient) -> None:
    for query in ("", "?sort=-name", "?q=lamp", "?skip=10000", "?category=light"):
        answer = await client.get(f"/products{query}")
        assert (ids(answer), list(answer.links)) == ([], ["first"])
    assert (await client.get("/products?count=true")).headers["x-total-count"] == "0"


async def test_changes_since_a_time_are_found_by_walking_in_their_order(client: httpx.AsyncClient) -> None:
    first, second, third = [await create(client) for _ in range(3)]
    since = {"updated_since": second["updated_at"], "sort": "updated_at", "limit": "1"}
    assert [ids(answer) for answer in await pages(client, **since)] == [[second["id"]], [third["id"]]]
    await client.put(f"/products/{first['id']}", json={"quantity": 9}, headers=bearer(ADA))
    await client.post(f"/products/{second['id']}/stock", json={"delta": 1, "reason": "found"}, headers=bearer(ADA))
    since["updated_since"] = third["updated_at"].replace("Z", "+00:00")
    changed = [each for answer in await pages(client, **since) for each in answer.json()]
    assert [(each["id"], each["version"]) for each in changed] == [
        (third["id"], 1),
        (first["id"], 2),
        (second["id"], 2),
    ]
    since["updated_since"] = changed[-1]["updated_at"]
    assert ids(await client.get("/products", params=since)) == [second["id"]]
    del since["limit"]
    file = await client.get("/products/export", params={"format": "ndjson", **since}, headers=bearer(ADA))
    assert len(file.text.splitlines()) == 1


async def test_total_is_returned_only_on_request(client: httpx.AsyncClient, everything: list[Json]) -> None:
    for query in ("", "?count=false"):
        assert "x-total-count" not in (await client.get(f"/products{query}")).headers


async def test_products_are_counted_up_to_a_limit(
    client: httpx.AsyncClient, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("product_service.services.products", "product_service.api.products"):
        monkeypatch.setattr(f"{module}.MAX_COUNT", 3)
    for stored, total in (("", "0"), ("abc", "3"), ("d", "3+"), ("ef", "3+")):
        store(database, [product(name=name) for name in stored])
        assert (await client.get("/products?count=true&limit=1")).headers["x-total-count"] == total
    answer = await client.get("/products?count=true&q=d")
    assert answer.headers["x-total-count"] == "1"
    # The links lead to all products nevertheless.
    assert len([each for answer in await pages(client, limit=1, count="true") for each in ids(answer)]) == 6


async def test_links_are_relative_and_keep_limit_and_count(client: httpx.AsyncClient, everything: list[Json]) -> None:
    first = await client.get("/products?limit=3&count=true&sort=-price&q=lam&min_price=9.990")
    assert first.headers["link"].startswith(
        '</products?sort=-price&q=lam&min_price=9.990&limit=3&count=true>; rel="first", '
        "</products?limit=3&count=true&cursor="
    )
    second = await client.get(first.links["next"]["url"])
    assert second.links["first"] == first.links["first"]
    assert len(second.json()) == 3
    last = (await pages(client, limit=100))[-1]
    assert last.headers["link"] == '</products?limit=100>; rel="first"'


async def test_next_page_continues_after_skipped_products(client: httpx.AsyncClient, everything: list[Json]) -> None:
    wanted = expected(everything, {"sort": "-price"})
    answers = await pages(client, sort="-price", skip=3, limit=10)
    assert [each for answer in answers for each in ids(answer)] == wanted[3:]
    assert ids(await client.get(answers[-1].links["first"]["url"])) == wanted[:10]


async def test_head_has_the_same_headers(client: httpx.AsyncClient, everything: list[Json]) -> None:
    got, head = await client.get("/products?count=true"), await client.head("/products?count=true")
    assert head.content == b""
    assert [head.headers[name] for name in ("link", "x-total-count")] == [
        got.headers[name] for name in ("link", "x-total-count")
    ]


INVALID: tuple[tuple[str, str], ...] = (
    *((f"limit={text}", "limit") for text in ("0", "101", "1.0", "1_0", "x")),
    *((f"skip={text}", "skip") for text in ("-1", "10001", "1_0", "%201")),
    *((f"sort={text}", "sort") for text in ("sku", "--id", "+id", "ID", "id,name", "name_key", "words")),
    *((f"q={text}", "q") for text in ("%20", "%F0%9F%92%A1", "*", "_", '""', "%00", "a%00", "a%0A", "a" * 201)),
    *((f"min_price={text}", "min_price") for text in ("-1", "1e2", "1.00000", "12345678901", "NaN", "%D9%A1")),
    *((f"max_price={text}", "max_price") for text in ("-0.01", "+1", "1_0", "0x1", "1,5", "Infinity")),
    ("min_price=10&max_price=9.9999", "max_price"),
    *((f"currency={text}", "currency") for text in ("usd", "XAU", "USDD")),
    *((f"category={text}", "category") for text in ("%E2%80%8B", "a%00", "x" * 101)),
    *((f"in_stock={text}", "in_stock") for text in ("%20", "2", "yes", "null", "on", "t")),
    *((f"count={text}", "count") for text in ("01", "yes")),
    *((f"owner_id={text}", "owner_id") for text in ("0", "-1", "1.0", str(2**63), "9" * 5000, "true")),
    *(
        (f"updated_since={text}", "updated_since")
        for text in (
            *(
                "2026-01-31",
                "2026-01-31T12:00:00",
                "2026-01-31T12:00:00+01:00",
                "20260131T120000Z",
                "1769860800",
                "now",
            ),
            *(
                "2026-02-30T12:00:00Z",
                "2026-01-31T24:00:01Z",
                "0001-01-01T00:00:00%2B01:00",
                "%D9%A2026-01-31T12:00:00Z",
            ),
        )
    ),
    *((f"cursor={text}", "cursor") for text in ("x", "%F0%9F%92%A1", "=", "a" * 20_000)),
    ("sku=a%E2%80%8B", "sku"),
    ("name=A", "name"),
    ("offset=1", "offset"),
    ("offset=", "offset"),
)


async def test_invalid_parameter_is_named(client: httpx.AsyncClient) -> None:
    for query, parameter in INVALID:
        assert mistakes(await client.get(f"/products?{query}")) == [parameter], query


async def test_empty_parameters_count_as_absent(client: httpx.AsyncClient, everything: list[Json]) -> None:
    """As a browser sends a form in which only the category was chosen."""
    form = "q=&min_price=&max_price=&currency=&category=&sku=&in_stock=&owner_id=&count=&sort=&limit=&skip=&cursor="
    plain = await client.get("/products")
    empty = await client.get(f"/products?{form}")
    assert empty.json() == plain.json()
    assert empty.headers["link"] == plain.headers["link"]
    chosen = await client.get(f"/products?{form.replace('category=', 'category=light')}")
    assert ids(chosen) == expected(everything, {"category": "light"})[:20]
    assert ids(await client.get("/products?category=&category=light&category=%20&owner_id=&owner_id=")) == ids(chosen)


async def test_repeated_filters_select_any_of_their_values(client: httpx.AsyncClient, everything: list[Json]) -> None:
    query = "category=light&category=Light&owner_id=1&owner_id=2&currency=USD&currency=EUR&currency=USD"
    wanted = expected(everything, {"category": ["light", "Light"], "owner_id": ["1", "2"]})
    assert 10 < len(wanted) < len(everything)
    answer = await client.get(f"/products?{query}&limit=100")
    assert ids(answer) == wanted
    first = await client.get(answer.links["first"]["url"])
    assert ids(first) == wanted
    assert first.links["first"] == answer.links["first"]
    # The values of a filter are a set: neither their order nor duplicates matter to a cursor.
    cursor = await cursor_of(client, category=["light", "Light"], limit=2)
    again = await client.get(f"/products?category=Light&category=light&category=light&cursor={cursor}&limit=100")
    assert ids(again) == expected(everything, {"category": ["light", "Light"]})[2:]
    lines = (await client.get(f"/products/export?format=ndjson&{query}", headers=bearer(ADA))).text.splitlines()
    assert len(lines) == len(wanted)


async def test_every_other_parameter_is_accepted_only_once(client: httpx.AsyncClient) -> None:
    values = {"sort": "id", "q": "a", "min_price": "1", "max_price": "2", "in_stock": "true", "count": "true"}
    for name, value in {**values, "limit": "1", "skip": "1", "cursor": write_cursor({"after": [1]})}.items():
        for second in (value, ""):
            answer = await client.get(f"/products?{name}={value}&{name}={second}")
            assert mistakes(answer) == [name], name
            assert answer.json()["errors"][0]["detail"] == "Send this parameter only once"
    for query in ("category=light&category=a%00", "currency=EUR&currency=usd", "owner_id=1&owner_id=0"):
        assert mistakes(await client.get(f"/products?{query}")) == [query.partition("=")[0]]
    too_many = "&".join(f"owner_id={number}" for number in range(1, 102))
    assert mistakes(await client.get(f"/products?{too_many}")) == ["owner_id"]
    export = await client.get("/products/export?format=csv&format=csv", headers=bearer(ADA))
    assert mistakes(export) == ["format"]


async def test_repeated_dry_run_imports_nothing(client: httpx.AsyncClient) -> None:
    headers = {**bearer(ADA), "Content-Type": "text/csv"}
    for first, second in (("true", "false"), ("false", "true"), ("true", "true")):
        answer = await client.post(
            f"/products/import?dry_run={first}&dry_run={second}",
            content="name,price,quantity\nLamp,1,1\n",
            headers=headers,
        )
        assert mistakes(answer) == ["dry_run"]
    assert (await client.get("/products")).json() == []


@pytest.mark.parametrize(("text", "flag"), [("1", "true"), ("TRUE", "true"), ("0", "false"), ("False", "false")])
async def test_flags_are_accepted_in_every_usual_spelling(
    client: httpx.AsyncClient, everything: list[Json], text: str, flag: str
) -> None:
    answer = await client.get(f"/products?in_stock={text}&count={text}&limit=100")
    assert ids(answer) == expected(everything, {"in_stock": flag})
    assert ("x-total-count" in answer.headers) == (flag == "true")
    assert f"in_stock={flag}" in answer.links["first"]["url"]


async def test_limits_of_parameters_are_accepted(client: httpx.AsyncClient, everything: list[Json]) -> None:
    for query in (
        *(
            "limit=1",
            "limit=100",
            "skip=0",
            "skip=10000",
            "min_price=0",
            "min_price=0.0001",
            "max_price=9999999999.9999",
        ),
        *("min_price=10&max_price=10.00", "owner_id=9223372036854775807", f"category={'x' * 100}", "currency=CLF"),
        *(
            f"q={'a' * 200}",
            f"q={'a+' * 100}",
            "q=%EF%B7%BA" * 1,
            "q=" + "%EF%B7%BA" * 200,
            "q=" + "%F0%9F%92%A1" * 199 + "a",
        ),
    ):
        assert (await client.get(f"/products?{query}")).status_code == 200, query


async def test_all_invalid_parameters_are_named(client: httpx.AsyncClient) -> None:
    assert mistakes(await client.get("/products?limit=0&sort=x&q=*&cursor=x")) == ["sort", "q", "limit", "cursor"]
