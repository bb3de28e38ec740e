"""The list of the caller's sessions, and its pages."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, insert

from testkit.users import Person, log_in, sign_up
from user_service.models import Session


def add_sessions(database: Engine, user_id: int, number: int) -> None:
    now = datetime.now(UTC)
    row = {
        "user_id": user_id,
        "created_at": now,
        "last_used_at": now,
        "expires_at": now + timedelta(days=1),
        "family_hash": "",
        "refresh_hash": "",
    }
    with database.begin() as connection:
        for _ in range(number):
            connection.execute(insert(Session), row)


async def pages(client: httpx.AsyncClient, person: Person, path: str) -> list[list[dict[str, Any]]]:
    """All pages from this path on, as the `Link` header leads from one to the next."""
    found = []
    while path:
        answer = await client.get(path, headers=person.headers)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        path = answer.links.get("next", {}).get("url", "")
    return found


async def test_the_list_begins_with_the_current_session_however_old_it_is(
    client: httpx.AsyncClient, database: Engine
) -> None:
    ada = await sign_up(client)
    add_sessions(database, ada.user_id, 125)
    first, second = await pages(client, ada, "/sessions")
    assert (len(first), len(second)) == (100, 26)
    assert [session["current"] for session in first + second] == [True] + [False] * 125
    ids = [session["id"] for session in first + second]
    assert ids[1:] == sorted(ids[1:], reverse=True)
    assert ids[0] == min(ids)
    assert len(set(ids)) == 126


@pytest.mark.parametrize("older", [0, 2, 5])
async def test_pages_have_every_session_once(client: httpx.AsyncClient, database: Engine, older: int) -> None:
    ada = await sign_up(client)
    add_sessions(database, ada.user_id, older)
    current = await log_in(client, ada.user_id, "ada")
    add_sessions(database, ada.user_id, 5 - older)
    for limit in (1, 2, 3, 6, 7, 8):
        found = await pages(client, current, f"/sessions?limit={limit}")
        sessions = [session for page in found for session in page]
        assert [session["current"] for session in sessions] == [True] + [False] * 6
        others = [session["id"] for session in sessions[1:]]
        assert others == sorted(others, reverse=True)
        assert len({session["id"] for session in sessions}) == 7
        assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
        assert 1 <= len(found[-1]) <= limit


async def test_pages_leave_out_sessions_of_others_and_revoked_ones(client: httpx.AsyncClient, database: Engine) -> None:
    ada, grace = await sign_up(client, "ada"), await sign_up(client, "grace")
    for person in (ada, grace, ada, grace):
        add_sessions(database, person.user_id, 1)
    first = await client.get("/sessions?limit=2", headers=ada.headers)
    # The position of the next page remains when its session is revoked.
    revoked = first.json()[1]["id"]
    assert (await client.delete(f"/sessions/{revoked}", headers=ada.headers)).status_code == 204
    (rest,) = await pages(client, ada, first.links["next"]["url"])
    assert len(rest) == 1
    assert rest[0]["id"] < revoked


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=x", "skip=1"])
async def test_invalid_pages_are_rejected(client: httpx.AsyncClient, query: str) -> None:
    ada = await sign_up(client)
    assert (await client.get(f"/sessions?{query}", headers=ada.headers)).status_code == 422
