"""The least that the services could do: two bare ASGI applications on the driver of the database.

They check the token, join its session, validate the fields of a product, store it in a committed transaction, answer
with the same JSON, and log one line per request. They do nothing else: no threads, no errors in their own format, no
limits, no history, no search. Start them with uvicorn; see `bench.services`.
"""

import json
import os
import re
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import psycopg2
from jose import JWTError, jwt

Json = dict[str, Any]
Answer = tuple[int, Any, list[tuple[bytes, bytes]]]

_DATABASE = os.environ["DATABASE_URL"]
_COLUMNS = "id, name, description, price, currency, quantity, category, sku, owner_id, created_at, updated_at, version"
_NAMES = _COLUMNS.split(", ")
_SESSION = """
SELECT users.id, username, is_admin FROM users JOIN sessions ON sessions.user_id = users.id
WHERE sessions.id = %s AND users.id = %s AND sessions.expires_at > %s AND users.is_active
"""
_INSERT = f"""
INSERT INTO products ({_COLUMNS.removeprefix("id, ")})
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 1) RETURNING {_COLUMNS}
"""


class _Database:
    """One connection; the application has one thread."""

    def __init__(self) -> None:
        self._connection: Any
        if _DATABASE.startswith("sqlite"):
            self._connection = sqlite3.connect(_DATABASE.removeprefix("sqlite:///"), isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
        else:
            self._connection = psycopg2.connect(re.sub(r"^postgresql\+\w+", "postgresql", _DATABASE))
            self._connection.autocommit = True
        self._is_sqlite = _DATABASE.startswith("sqlite")

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        if self._is_sqlite:
            return list(self._connection.execute(statement.replace("%s", "?"), [_plain(each) for each in values]))
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, (datetime, Decimal)) else value


_database = _Database()


def _product(row: tuple[Any, ...]) -> Json:
    product = dict(zip(_NAMES, row, strict=True))
    product["price"] = f"{Decimal(product['price']):.2f}"
    for name in ("created_at", "updated_at"):
        product[name] = str(product[name]).replace(" ", "T") + "Z"
    return product


async def _user_service(method: str, path: str, _: dict[bytes, bytes], body: bytes) -> Answer:
    if (method, path) != ("POST", "/validate-token"):
        return 404, {"detail": "not found"}, []
    try:
        claims = jwt.decode(json.loads(body)["token"], os.environ["SECRET_KEY"], "HS256", audience="services")
    except JWTError:
        return 200, {"valid": False}, []
    rows = _database.rows(_SESSION, claims["sid"], int(claims["sub"]), datetime.now(UTC).replace(tzinfo=None))
    if not rows:
        return 200, {"valid": False}, []
    ((user_id, username, is_admin),) = rows
    roles = ["user", "admin"] if is_admin else ["user"]
    answer = {"valid": True, "user_id": user_id, "username": username, "roles": roles, "session_id": claims["sid"]}
    expires_at = datetime.fromtimestamp(claims["exp"], UTC).isoformat()
    return 200, {**answer, "expires_at": expires_at, "message": "The token is valid."}, []


_session: aiohttp.ClientSession | None = None


async def _caller(headers: dict[bytes, bytes]) -> int | None:
    global _session
    if _session is None:
        _session = aiohttp.ClientSession()
    token = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
    async with _session.post(f"{os.environ['USER_SERVICE_URL']}/validate-token", json={"token": token}) as response:
        answer: Json = await response.json()
    return answer["user_id"] if answer["valid"] else None


async def _product_service(method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Answer:
    target = urlsplit(path)
    if method == "POST" and target.path == "/products":
        caller = await _caller(headers)
        if caller is None:
            return 401, {"detail": "invalid token"}, [(b"www-authenticate", b"Bearer")]
        draft = json.loads(body)
        price, quantity = Decimal(draft["price"]), int(draft.get("quantity", 0))
        if not 0 < len(draft["name"]) <= 200 or price < 0 or quantity < 0:
            return 422, {"detail": "invalid"}, []
        optional = (draft.get("category"), draft.get("sku"))
        now = datetime.now(UTC).replace(tzinfo=None)
        values = (draft["name"], draft.get("description"), price, draft.get("currency", "EUR"), quantity, *optional)
        (row,) = _database.rows(_INSERT, *values, caller, now, now)
        product = _product(row)
        return 201, product, [(b"location", b"/products/%d" % product["id"]), (b"etag", b'"1"')]
    if method == "GET" and target.path == "/products":
        limit = int(parse_qs(target.query).get("limit", ["20"])[0])
        rows = _database.rows(f"SELECT {_COLUMNS} FROM products ORDER BY id LIMIT %s", limit + 1)
        link = f'</products?limit={limit}&cursor={rows[limit - 1][0]}>; rel="next"' if len(rows) > limit else ""
        return 200, [_product(row) for row in rows[:limit]], [(b"link", link.encode())]
    if method == "GET" and target.path.startswith("/products/"):
        rows = _database.rows(f"SELECT {_COLUMNS} FROM products WHERE id = %s", int(target.path[10:]))
        if rows:
            return 200, _product(rows[0]), [(b"etag", b'"%d"' % rows[0][-1])]
    return 404, {"detail": "not found"}, []


Endpoint = Callable[[str, str, dict[bytes, bytes], bytes], Awaitable[Answer]]


def _application(endpoint: Endpoint) -> Callable[..., Awaitable[None]]:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": f"{message['type']}.complete"})
            return
        started = time.perf_counter()
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        path = scope["path"] + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        status, answer, headers = await endpoint(scope["method"], path, dict(scope["headers"]), body)
        content = json.dumps(answer).encode()
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        line = {"time": datetime.now(UTC).isoformat(), "method": scope["method"], "status": status}
        line["duration_ms"] = round((time.perf_counter() - started) * 1000, 1)
        sys.stdout.write(json.dumps(line) + "\n")

    return application


users = _application(_user_service)
products = _application(_product_service)
