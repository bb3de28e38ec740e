"""The list: its order, its filters, its search and its cursors, compared with a plain model of the catalogue."""

import itertools
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from product_support import ADA, DRAFT, NEW_YEAR, bearer, product, store
from sqlalchemy import Engine

from chassis.models import LARGEST_ID
from chassis.paging import read_cursor, write_cursor
from product_service.models import Product
from product_service.words import folded, words

NAMES = [
    "Lamp",
    "lamp",
    "LÄMP",
    "Lampe",
    "a",
    "Z",
    "ä",
    "Straße",
    "strasse 2",
    "机械键盘",
    "💡",
    "1.2.3",
    "Ωmega",
    "z\u0301",
]
DESCRIPTIONS = [None, "", "of brass\nand glass", "ada@example.org", "Größe 3,5 mm²", "AND OR NOT NEAR", "机械 lamp"]
FIELDS = ["id", "name", "price", "quantity", "created_at", "updated_at"]

Json = dict[str, Any]


def catalogue() -> Iterator[Product]:
    """Sixty products with many ties, some without a sku, a category or a description."""
    chance = random.Random(7)
    for number in range(60):
        yield product(
            name=chance.choice(NAMES),
            description=chance.choice(DESCRIPTIONS),
            price=chance.choice([Decimal("0.01"), Decimal(9), Decimal("9.99"), Decimal(10), Decimal("9999999999.99")]),
            currency=chance.choice(["USD", "EUR"]),
            quantity=chance.choice([0, 0, 1, 2**31 - 1]),
            sku=chance.choice([None, f"sku {number}"]),
            category=chance.choice([None, "light", "Light", "ä' OR 1=1"]),
            owner_id=chance.choice([1, 2, LARGEST_ID]),
            created_at=NEW_YEAR + timedelta(microseconds=chance.randint(0, 5)),
            updated_at=NEW_YEAR + timedelta(days=chance.randint(0, 5)),
        )


def decided_by(sort: str) -> Callable[[Json], Any]:
    field = sort.removeprefix("-")
    if field == "name":
        return lambda each: (folded(each["name"]).encode(), each["id"])
    if field == "price":
        return lambda each: (Decimal(each["price"]), each["id"])
    if field.endswith("_at"):
        return lambda each: (datetime.fromisoformat(each[field]), each["id"])
    return lambda each: (each[field], each["id"])


def begins_a_word(word: str, each: Json) -> bool:
    return any(other.startswith(word) for other in words(each["name"], each["description"]))


FILTERS: dict[str, Callable[[Json, str], bool]] = {
    "q": lambda each, q: all(begins_a_word(word, each) for word in words(q)),
    "min_price": lambda each, amount: Decimal(each["price"]) >= Decimal(amount),
    "max_price": lambda each, amount: Decimal(each["price"]) <= Decimal(amount),
    "currency": lambda each, code: bool(each["currency"] == code),
    "category": lambda each, category: bool(each["category"] == category),
    "in_stock": lambda each, flag: (each["quantity"] > 0) == (flag == "true"),
    "owner_id": lambda each, owner: bool(each["owner_id"] == int(owner)),
}


def expected(everything: list[Json], query: dict[str, str]) -> list[int]:
    """The ids that the query should give, in their order."""
    asked = {name: value for name, value in query.items() if name in FILTERS}
    found = [each for each in everything if all(FILTERS[name](each, value) for name, value in asked.items())]
    sort = query.get("sort", "id")
    return [each["id"] for each in sorted(found, key=decided_by(sort), reverse=sort.startswith("-"))]


def ids(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()]


async def pages(client: httpx.AsyncClient, **query: Any) -> list[httpx.Response]:
    """The pages from the first one on, by their links."""
    answers = [await client.get("/products", params=query)]
    while "next" in answers[-1].links:
        answers.append(await client.get(answers[-1].links["next"]["url"]))
    return answers


async def cursor_of(client: httpx.AsyncClient, **query: Any) -> str:
    """The cursor of the second page."""
    link = (await client.get("/products", params=query)).links["next"]["url"]
    return httpx.URL(link).params["cursor"]


def mistakes(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["parameter"] for error in answer.json()["errors"]]


@pytest.fixture
async def everything(client: httpx.AsyncClient, database: Engine) -> list[Json]:
    """The catalogue, stored, as it is answered."""
    store(database, catalogue())
    answer = await client.get("/products?limit=100")
    found: list[Json] = answer.json()
    assert len(found) == 60
    return found


QUERIES = st.fixed_dictionaries(
    {"limit": st.sampled_from(["1", "7", "60", "100"])},
    optional={
        "sort": st.sampled_from([sign + field for field in FIELDS for sign in ("", "-")]),
        "q": st.sampled_from(
            ["lam", "LAMP", "läm", "strass", "键", "机", "a", "ada example", "1 2", "3 5 mm2", "or", "x"]
        ),
        "min_price": st.sampled_from(["0", "9.99", "9.990", "10"]),
        "max_price": st.sampled_from(["10", "10.0001", "9999999999.9999"]),
        "currency": st.sampled_from(["USD", "EUR", "JPY"]),
        "category": st.sampled_from(["light", "Light", "ä' OR 1=1", "l"]),
        "in_stock": st.sampled_from(["true", "false"]),
        "owner_id": st.sampled_from(["1", "2", "3", str(LARGEST_ID)]),
    },
)


@settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(query=QUERIES)
async def test_the_pages_together_are_what_a_plain_model_finds(
    client: httpx.AsyncClient, everything: list[Json], query: dict[str, str]
) -> None:
    answers = await pages(client, **query, count="true")
    wanted = expected(everything, query)
    assert [each for answer in answers for each in ids(answer)] == wanted
    for answer in answers:
        assert answer.headers["x-total-count"] == str(len(wanted))
        assert ids(await client.get(answer.links["first"]["url"])) == wanted[: int(query["limit"])]


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("field", FIELDS)
async def test_each_order_is_walked_one_by_one_ties_and_all(
    client: httpx.AsyncClient, everything: list[Json], field: str, sign: str
) -> None:
    wanted = expected(everything, {"sort": sign + field})
    seen = [each for answer in await pages(client, sort=sign + field, limit=1) for each in ids(answer)]
    assert seen == wanted
    assert wanted != expected(everything, {"sort": "-id" if sign + field != "-id" else "id"})


async def test_names_are_sorted_by_their_letters_and_not_by_case_or_accents(
    client: httpx.AsyncClient, database: Engine
) -> None:
    names = ["Zebra", "apple", "Äpfel", "Apfel 2", "zebra", "éclair", "Eclair", "机", "10", "9", " b"]
    store(database, (product(name=name) for name in names))
    found = (await client.get("/products?sort=name")).json()
    assert [each["name"] for each in found] == [
        *(" b", "10", "9", "Äpfel", "Apfel 2", "apple", "éclair", "Eclair", "Zebra", "zebra", "机")
    ]


async def test_an_empty_catalogue_has_one_empty_page(client: httpx.AsyncClient) -> None:
    for query in ("", "?sort=-name", "?q=lamp", "?skip=10000", "?category=light"):
        answer = await client.get(f"/products{query}")
        assert (ids(answer), list(answer.links)) == ([], ["first"])
    assert (await client.get("/products?count=true")).headers["x-total-count"] == "0"


async def test_nothing_is_counted_unless_it_is_asked_for(client: httpx.AsyncClient, everything: list[Json]) -> None:
    for query in ("", "?count=false"):
        assert "x-total-count" not in (await client.get(f"/products{query}")).headers


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


async def test_a_page_behind_skipped_products_goes_on_behind_its_last_one(
    client: httpx.AsyncClient, everything: list[Json]
) -> None:
    wanted = expected(everything, {"sort": "-price"})
    answers = await pages(client, sort="-price", skip=3, limit=10)
    assert [each for answer in answers for each in ids(answer)] == wanted[3:]
    assert ids(await client.get(answers[-1].links["first"]["url"])) == wanted[:10]


async def test_a_head_request_has_the_same_headers(client: httpx.AsyncClient, everything: list[Json]) -> None:
    got, head = await client.get("/products?count=true"), await client.head("/products?count=true")
    assert head.content == b""
    assert [head.headers[name] for name in ("link", "x-total-count")] == [
        got.headers[name] for name in ("link", "x-total-count")
    ]


WRONG: tuple[tuple[str, str], ...] = (
    *((f"limit={text}", "limit") for text in ("0", "101", "1.0", "x", "")),
    *((f"skip={text}", "skip") for text in ("-1", "10001", "1_0", "")),
    *((f"sort={text}", "sort") for text in ("sku", "--id", "+id", "ID", "id,name", "name_key", "words", "")),
    *((f"q={text}", "q") for text in ("", "%20", "%F0%9F%92%A1", "*", "_", '""', "%00", "a%00", "a%0A", "a" * 201)),
    *((f"min_price={text}", "min_price") for text in ("", "-1", "1e2", "1.00000", "12345678901", "NaN", "%D9%A1")),
    *((f"max_price={text}", "max_price") for text in ("", "-0.01", "+1", "1_0", "0x1", "1,5", "Infinity")),
    ("min_price=10&max_price=9.9999", "max_price"),
    *((f"currency={text}", "currency") for text in ("", "usd", "XAU", "USDD")),
    *((f"category={text}", "category") for text in ("", "%20", "a%00", "x" * 101)),
    *((f"in_stock={text}", "in_stock") for text in ("", "1", "True", "yes", "null")),
    *((f"count={text}", "count") for text in ("", "1", "TRUE")),
    *((f"owner_id={text}", "owner_id") for text in ("", "0", "-1", "1.0", str(2**63), "9" * 5000, "true")),
    *((f"cursor={text}", "cursor") for text in ("", "x", "%F0%9F%92%A1", "=", "a" * 20_000)),
    ("sku=A", "sku"),
    ("offset=1", "offset"),
)


async def test_a_parameter_out_of_range_or_unknown_is_named(client: httpx.AsyncClient) -> None:
    for query, parameter in WRONG:
        assert mistakes(await client.get(f"/products?{query}")) == [parameter], query


async def test_what_is_just_in_range_is_accepted(client: httpx.AsyncClient, everything: list[Json]) -> None:
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


async def test_two_mistakes_are_both_named(client: httpx.AsyncClient) -> None:
    assert mistakes(await client.get("/products?limit=0&sort=x&q=&cursor=x")) == ["sort", "q", "limit", "cursor"]


class TestSearch:
    TEXTS = (
        *("Lämpchen", "LAMPE", "lamp-shade", "clamp", "Straße", "STRASSE 7", "Strasbourg", "Æther", "İstanbul", "ΟΔΟΣ"),
        *(
            "机械键盘",
            "键盘",
            "ガラス",
            "한국어",
            "หนังสือ",
            "किताब",
            "💡 bulb",
            "bulb💡light",
            "👩\u200d👩\u200d👧 family",
            "1️⃣ one",
        ),
        *("ada.lovelace+spam@example.org", "1.2.3", "12.5 mm²", "½ inch", "R2-D2", "snake_case", "don't", "C++", "C#"),
        *("AND", "OR", "NOT gate", "NEAR east", "a & b", "x | y", "!important", "p <-> q", "(parens)", 'say "hi"'),
        *(
            "it's",
            "back\\slash",
            "a:b",
            "wild*card",
            "^caret",
            "50 %",
            "{brace}",
            "-minus",
            "words words",
            "ﬁne",
            "x" * 255,
        ),
    )
    QUERIES = (
        *(
            "lam",
            "LAM",
            "lämp",
            "la\u0308mp",
            "lampchen",
            "shade",
            "amp",
            "strass",
            "straße",
            "ẞ",
            "stra",
            "æ",
            "ae",
            "istan",
        ),
        *(
            "i\u0307stan",
            "οδος",
            "ΟΔΌΣ",
            "机",
            "机械",
            "械",
            "键盘",
            "ガ",
            "カ",
            "ｶﾞﾗ",
            "한",
            "하",
            "국",
            "ห",
            "कित",
            "bulb",
            "light",
        ),
        *(
            "family",
            "1",
            "one",
            "ada",
            "ada.lovelace",
            "ada@example.org",
            "example.org",
            "lovelace org",
            "1.2.3",
            "1 2",
            "2.5",
        ),
        *(
            "mm2",
            "½",
            "r2",
            "d2",
            "r2-d2",
            "snake",
            "case",
            "snake_case",
            "don't",
            "t",
            "c",
            "c++",
            "AND",
            "and",
            "OR",
            "NOT",
        ),
        *(
            "NEAR",
            "NEAR(east, 2)",
            "a AND b",
            "a OR x",
            "NOT gate",
            "gate NOT x",
            "a & b",
            "a | x",
            "!important",
            "p <-> q",
        ),
        *(
            "p <2> q",
            "(parens",
            "parens)",
            '"hi"',
            '"say hi"',
            "it's",
            "'",
            "its",
            "'a':*",
            "a:*",
            "a:b",
            "wild*",
            "wil*card",
        ),
        *(
            "^caret",
            "50%",
            "%",
            "words:lam",
            "name : lam",
            "-minus",
            "minus -x",
            "+lam",
            "{brace}",
            "\\",
            "back\\slash",
        ),
        *(
            "lamp\tshade",
            "fi",
            "ﬁ",
            "x" * 100,
            "x" * 200,
            "x" * 101,
            "words words",
            "w o",
            "💡",
            "💡 bulb",
            "zzz",
            ";--",
        ),
    )

    @pytest.fixture
    async def texts(self, client: httpx.AsyncClient, database: Engine) -> list[Json]:
        split = ((text, None) for text in self.TEXTS), (("thing", text) for text in self.TEXTS)
        store(database, (product(name=name, description=text) for name, text in itertools.chain(*split)))
        return [each for answer in await pages(client, limit=100) for each in answer.json()]

    async def test_every_word_begins_a_word_whatever_it_is_made_of(
        self, client: httpx.AsyncClient, texts: list[Json]
    ) -> None:
        hits = 0
        for q in self.QUERIES:
            answer = await client.get("/products", params={"q": q, "limit": 100})
            if not words(q) or "\t" in q:
                assert mistakes(answer) == ["q"]
            else:
                assert ids(answer) == expected(texts, {"q": q}), q
                hits += len(answer.json()) > 0
        assert hits > len(self.QUERIES) * 2 / 3

    @pytest.mark.parametrize(
        ("q", "found"),
        [
            ("lamp", ["Lämpchen", "LAMPE", "lamp-shade"]),
            ("amp", []),
            ("STRASS", ["Straße", "STRASSE 7"]),
            ("org spam", ["ada.lovelace+spam@example.org"]),
            ("ada@example.org", ["ada.lovelace+spam@example.org"]),
            ("机械", ["机械键盘"]),
            ("键盘", ["键盘"]),
            ("NOT gate", ["NOT gate"]),
            ("a & b", ["a & b", "a:b"]),
            ("a | x", []),
            ("bulb 💡", ["💡 bulb", "bulb💡light"]),
            ("1.2", ["1.2.3", "½ inch"]),
            ("i'ts", []),
        ],
    )
    async def test_it_finds_what_a_person_would_expect(
        self, client: httpx.AsyncClient, texts: list[Json], q: str, found: list[str]
    ) -> None:
        answer = await client.get("/products", params={"q": q, "limit": 100})
        assert [each["name"] for each in answer.json() if each["name"] != "thing"] == found
        assert [each["description"] for each in answer.json() if each["name"] == "thing"] == found

    async def test_words_may_be_in_name_and_description(self, client: httpx.AsyncClient, database: Engine) -> None:
        store(database, [product(name="Desk lamp", description="brass"), product(name="Desk"), product(name="Brass")])
        assert len(ids(await client.get("/products?q=bra+des"))) == 1

    async def test_what_changes_is_found_as_it_is_now(self, client: httpx.AsyncClient) -> None:
        async def found(q: str) -> list[int]:
            return ids(await client.get("/products", params={"q": q}))

        async def put(fields: Json) -> None:
            assert (await client.put("/products/1", json=fields, headers=bearer(ADA))).status_code == 200

        draft = {**DRAFT, "name": "Schöne Lampe", "description": "aus Messing"}
        await client.post("/products", json=draft, headers=bearer(ADA))
        assert await found("schone") == await found("lam mess") == [1]
        await put({"name": "Alter Stuhl"})
        assert (await found("lampe"), await found("stuhl messing")) == ([], [1])
        await put({"quantity": 7, "price": "5"})
        assert await found("stuhl messing") == [1]
        await put({"description": None})
        assert (await found("messing"), await found("stuhl")) == ([], [1])
        await client.delete("/products/1", headers=bearer(ADA))
        assert await found("stuhl") == []


class TestCursor:
    QUERY: Json = {"sort": "-price", "q": "l", "min_price": "1", "in_stock": "true", "limit": 2}  # noqa: RUF012

    async def test_what_it_says_may_be_said_again(self, client: httpx.AsyncClient, everything: list[Json]) -> None:
        cursor = await cursor_of(client, **self.QUERY)
        wanted = expected(everything, self.QUERY)
        again = {"cursor": cursor, **self.QUERY, "min_price": "1.00"}
        assert ids(await client.get("/products", params=again)) == wanted[2:4]
        anew = await client.get("/products", params={"cursor": cursor, "limit": 100, "count": "true"})
        assert (ids(anew), anew.headers["x-total-count"]) == (wanted[2:], str(len(wanted)))

    async def test_the_order_that_was_left_out_is_by_id(
        self, client: httpx.AsyncClient, everything: list[Json]
    ) -> None:
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
            *({"max_price": "100"}, {"currency": "USD"}, {"category": "light"}, {"owner_id": "1"}),
            {"skip": "0"},
        ],
        ids=str,
    )
    async def test_nothing_else_may_be_asked_beside_it(
        self, client: httpx.AsyncClient, everything: list[Json], other: Json
    ) -> None:
        cursor = await cursor_of(client, **self.QUERY)
        answer = await client.get("/products", params={"cursor": cursor, **other})
        assert mistakes(answer) == ["cursor"]
        assert next(iter(other)) in answer.json()["errors"][0]["detail"]

    async def test_it_says_all_that_was_asked(self, client: httpx.AsyncClient, database: Engine) -> None:
        query = {"sort": "name", "q": "ß 💡", "min_price": "1", "max_price": "0099.5", "currency": "USD"}
        query |= {"category": "ä' OR 1=1", "in_stock": "true", "owner_id": str(LARGEST_ID)}
        matching = {"name": "Straße ss", "category": "ä' OR 1=1", "owner_id": LARGEST_ID, "quantity": 1}
        stored = store(database, (product(**matching) for _ in range(3)))
        store(database, [product()])
        answers = await pages(client, **query, limit=1)
        assert [each for answer in answers for each in ids(answer)] == stored

    async def test_it_goes_on_where_its_product_was_before_it_was_deleted(
        self, client: httpx.AsyncClient, everything: list[Json]
    ) -> None:
        owned = {"owner_id": 1, "sort": "-name"}
        wanted = expected(everything, {"owner_id": "1", "sort": "-name"})
        cursor = await cursor_of(client, **owned, limit=2)
        for product_id in wanted[:2]:
            assert (await client.delete(f"/products/{product_id}", headers=bearer(ADA))).status_code == 204
        assert ids(await client.get("/products", params={"cursor": cursor})) == wanted[2:22]

    async def test_the_longest_question_and_the_longest_name_fit_into_one(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        name, category = "𝟘𐐨" * 127, "𐐨" * 100
        store(database, (product(name=name, category=category) for _ in range(3)))
        answers = await pages(client, sort="-name", q="0𐐨" * 50 + " 0" * 50, category=category, limit=1)
        assert [each for answer in answers for each in ids(answer)] == [3, 2, 1]
        assert len(answers[0].headers["link"]) < 8_000

    async def test_one_that_is_broken_is_refused(self, client: httpx.AsyncClient, everything: list[Json]) -> None:
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
        *({"after": [1], "sort": sort} for sort in ("sku", "words", "name_key", "", 1, "id; --", ["id"])),
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
        *({"after": [1], **filters} for filters in ({"q": ""}, {"q": "*"}, {"q": "a\x00"}, {"q": 1}, {"q": "a" * 201})),
        *(
            {"after": [1], **filters}
            for filters in ({"owner_id": 0}, {"owner_id": "1"}, {"owner_id": True}, {"owner_id": 1.0})
        ),
        *(
            {"after": [1], **filters}
            for filters in ({"min_price": -1}, {"min_price": "2", "max_price": "1"}, {"max_price": 1.5})
        ),
        *(
            {"after": [1], **filters}
            for filters in ({"in_stock": True}, {"in_stock": "1"}, {"currency": "usd"}, {"category": " "})
        ),
    )

    async def test_one_that_is_forged_is_looked_at_like_any_input(self, client: httpx.AsyncClient) -> None:
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
    async def test_a_place_at_the_very_end_gives_everything(
        self, client: httpx.AsyncClient, everything: list[Json], content: Any
    ) -> None:
        answer = await client.get("/products", params={"cursor": write_cursor(content), "limit": 100})
        assert ids(answer) == expected(everything, {"sort": content["sort"]})

    async def test_it_holds_nothing_but_the_question_and_the_place(
        self, client: httpx.AsyncClient, everything: list[Json]
    ) -> None:
        content = read_cursor(await cursor_of(client, **self.QUERY))
        second = everything[expected(everything, self.QUERY)[1] - 1]
        price, product_id = content.pop("after")
        assert (Decimal(price), product_id) == (Decimal(second["price"]), second["id"])
        assert content == {name: value for name, value in self.QUERY.items() if name != "limit"}
