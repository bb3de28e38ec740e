"""A catalogue of products, and a simple model of the list: the expected order, filters and search results."""

import random
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx

from chassis.ids import LARGEST_ID
from product_service.domain.search_text import SearchWord, fold, search_words, words
from product_service.models import Product
from testkit.products import NEW_YEAR, product

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
    """Sixty products with many equal values, some without a SKU, a category or a description."""
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


def sort_key(sort: str) -> Callable[[Json], Any]:
    field = sort.removeprefix("-")
    if field == "name":
        return lambda each: (fold(each["name"]).encode(), each["id"])
    if field == "price":
        return lambda each: (Decimal(each["price"]), each["id"])
    if field.endswith("_at"):
        return lambda each: (datetime.fromisoformat(each[field]), each["id"])
    return lambda each: (each[field], each["id"])


def has_word(word: SearchWord, each: Json) -> bool:
    found = words(each["name"], each["description"], each["sku"])
    return word.text in found if word.is_whole else any(other.startswith(word.text) for other in found)


FILTERS: dict[str, Callable[[Json, str], bool]] = {
    "q": lambda each, q: all(has_word(word, each) for word in search_words(q)),
    "min_price": lambda each, amount: Decimal(each["price"]) >= Decimal(amount),
    "max_price": lambda each, amount: Decimal(each["price"]) <= Decimal(amount),
    "currency": lambda each, code: bool(each["currency"] == code),
    "category": lambda each, category: bool(each["category"] == category),
    "sku": lambda each, sku: bool(each["sku"] == sku),
    "in_stock": lambda each, flag: (each["quantity"] > 0) == (flag == "true"),
    "owner_id": lambda each, owner: bool(each["owner_id"] == int(owner)),
    "updated_since": lambda each, since: datetime.fromisoformat(each["updated_at"]) >= datetime.fromisoformat(since),
}


def expected(everything: list[Json], query: Mapping[str, str | list[str]]) -> list[int]:
    """The ids that the query should return, in order. Of a filter with several values, any may match."""
    filters = {name: [value] if isinstance(value, str) else value for name, value in query.items() if name in FILTERS}
    found = [
        each
        for each in everything
        if all(any(FILTERS[name](each, value) for value in values) for name, values in filters.items())
    ]
    sort = str(query.get("sort", "id"))
    return [each["id"] for each in sorted(found, key=sort_key(sort), reverse=sort.startswith("-"))]


def ids(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()]


async def pages(client: httpx.AsyncClient, **query: Any) -> list[httpx.Response]:
    """All pages, following the links."""
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
