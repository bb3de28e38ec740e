"""Product search: every word of the query is a prefix of a word in the name, the description or the SKU."""

import itertools

import httpx
import pytest
from sqlalchemy import Engine

from product_service.domain.search_text import words
from testkit.product_list import Json, expected, ids, mistakes, pages
from testkit.products import DRAFT, bearer, product, store
from testkit.user_service_stub import ADA


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
        *("Łosoś", "łosoś wędzony", "smørrebrød", "cœur", "Đakovo", "Ħamrun", "ISPARTA", "ısparta", "İSPARTA"),
        *("key\u00adboard", "key\u200bboard", "\ufeffkeyboard", "O'Brien", "O\u02bcBrien", "O’Brien"),
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

    async def test_queries_match_the_reference_model(self, client: httpx.AsyncClient, texts: list[Json]) -> None:
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
            ("键盘", ["机械键盘", "键盘"]),
            ("械", ["机械键盘"]),
            ("盘", ["机械键盘", "键盘"]),
            ("械键盘", ["机械键盘"]),
            ("盘键", []),
            ("ラス", ["ガラス"]),
            ("ｽ", ["ガラス"]),
            ("สือ", ["หนังสือ"]),
            ("国", []),
            ("NOT gate", ["NOT gate"]),
            ("a & b", ["a & b", "a:b"]),
            ("a | x", []),
            ("bulb 💡", ["💡 bulb", "bulb💡light"]),
            ("1.2", ["1.2.3", "½ inch"]),
            ("i'ts", []),
            ("lamp s", []),
            ("g", ["NOT gate"]),
            ("it s", ["it's"]),
            ("机 键", ["机械键盘"]),
            ("losos", ["Łosoś", "łosoś wędzony"]),
            ("ŁOSOŚ", ["Łosoś", "łosoś wędzony"]),
            ("smorrebrod", ["smørrebrød"]),
            ("SMØRREBRØD", ["smørrebrød"]),
            ("coeur", ["cœur"]),
            ("CŒU", ["cœur"]),
            ("dakovo", ["Đakovo"]),
            ("ħamrun", ["Ħamrun"]),
            ("isparta", ["ISPARTA", "ısparta", "İSPARTA"]),
            ("ISPARTA", ["ISPARTA", "ısparta", "İSPARTA"]),
            ("ıspar", ["ISPARTA", "ısparta", "İSPARTA"]),
            ("keyboard", ["key\u00adboard", "key\u200bboard", "\ufeffkeyboard"]),
            ("key\u200cboard", ["key\u00adboard", "key\u200bboard", "\ufeffkeyboard"]),
            ("o'brien", ["O'Brien", "O\u02bcBrien", "O’Brien"]),
            ("o\u02bcbrien", ["O'Brien", "O\u02bcBrien", "O’Brien"]),
        ],
    )
    async def test_search_finds_the_expected_products(
        self, client: httpx.AsyncClient, texts: list[Json], q: str, found: list[str]
    ) -> None:
        answer = await client.get("/products", params={"q": q, "limit": 100})
        assert [each["name"] for each in answer.json() if each["name"] != "thing"] == found
        assert [each["description"] for each in answer.json() if each["name"] == "thing"] == found

    async def test_words_can_be_in_name_or_description(self, client: httpx.AsyncClient, database: Engine) -> None:
        store(database, [product(name="Desk lamp", description="brass"), product(name="Desk"), product(name="Brass")])
        assert len(ids(await client.get("/products?q=bra+des"))) == 1

    async def test_words_can_be_in_the_sku(self, client: httpx.AsyncClient, database: Engine) -> None:
        store(database, [product(name="Keyboard", sku="KB-87-BLK"), product(name="KB 87"), product(sku="Größe 42")])
        for q, found in (("kb-87", [1, 2]), ("KEYB blk", [1]), ("grosse", [3]), ("87-kb-blk", [1]), ("LK-87", [])):
            assert ids(await client.get("/products", params={"q": q})) == found, q

    async def test_sku_is_a_filter(self, client: httpx.AsyncClient, database: Engine) -> None:
        store(database, [product(sku=sku) for sku in ("KB 87", "KB", "kb 87", None, "87")])
        for sku, found in (("KB 87", [1]), (" KB\u00a087 ", [1]), ("kb 87", [3]), ("KB 8", []), ("", [1, 2, 3, 4, 5])):
            assert ids(await client.get("/products", params={"sku": sku})) == found, sku
        assert mistakes(await client.get("/products", params={"sku": "KB\u200b87"})) == ["sku"]
        file = await client.get("/products/export?format=csv&sku=kb+87", headers=bearer(ADA))
        assert file.text.splitlines()[1:] == ["Lamp,,19.99,USD,3,kb 87,"]

    async def test_a_search_has_at_most_eight_words(self, client: httpx.AsyncClient, database: Engine) -> None:
        store(database, [product(name="one two three four five six seven eight nine")])
        eight = "one two three four five six seven eight"
        for q in (eight, f"{eight} EIGHT 💡"):
            assert ids(await client.get("/products", params={"q": q})) == [1]
        for path in ("/products", "/products/export"):
            query = {"q": f"{eight} nine", **({"format": "csv"} if "export" in path else {})}
            answer = await client.get(path, params=query, headers=bearer(ADA))
            assert mistakes(answer) == ["q"]
            assert answer.json()["errors"][0]["detail"] == "Enter at most 8 words, not 9"
        # In scripts without spaces, a text is one word.
        assert ids(await client.get("/products", params={"q": "全自动洗衣机滚筒式家用大容量"})) == []

    async def test_search_follows_changes(self, client: httpx.AsyncClient) -> None:
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
        await put({"sku": "ST-1"})
        assert await found("st-1 stuhl") == [1]
        await put({"sku": None})
        assert (await found("1"), await found("stuhl")) == ([], [1])
        await client.delete("/products/1", headers=bearer(ADA))
        assert await found("stuhl") == []
