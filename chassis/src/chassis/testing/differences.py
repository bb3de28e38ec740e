"""Shows that two databases behind a service make no difference to its clients."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from chassis.testing import running

_DIFFERENT_EACH_TIME = {"access_token", "refresh_token", "created_at", "expires_at", "request_id", "updated_at"}


@dataclass(frozen=True)
class Call:
    """One request; `{3}` in its path stands for the id of the third thing made, `token` is sent as a bearer token."""

    method: str
    path: str
    body: Any = None
    token: str | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass(frozen=True)
class Answer:
    """What a client sees of an answer, but for what differs each time: times, tokens and request ids."""

    to: Call
    status: int
    headers: Mapping[str, str | None]
    body: Any


async def answers(app: FastAPI, calls: Sequence[Call]) -> list[Answer]:
    """The application's answers to the calls, made one after the other.

    An id is told as the number of what was made with it: PostgreSQL leaves one out when an insertion fails.
    """
    ids: list[int] = []
    seen: list[Answer] = []
    async with running(app) as client:
        for call in calls:
            path = re.sub(r"\{(\d+)\}", lambda match: str(_id_of(int(match[1]), ids)), call.path)
            answer = await client.request(call.method, path, json=call.body, headers=call.headers)
            body: Any = answer.json() if answer.content else None
            if answer.status_code == 201:
                ids.append(body["id"])
            location = answer.headers.get("location")
            headers = {
                "location": location and re.sub(r"\d+$", lambda match: _number_of(int(match[0]), ids), location),
                "link": answer.headers.get("link"),
            }
            seen.append(Answer(call, answer.status_code, headers, _comparable(body, ids)))
    return seen


def _id_of(number: int, ids: list[int]) -> int:
    return ids[number - 1] if number <= len(ids) else 10**6 + number


def _number_of(row_id: int, ids: list[int]) -> str:
    return f"number {ids.index(row_id) + 1}"


def _comparable(body: Any, ids: list[int]) -> Any:
    if isinstance(body, list):
        return [_comparable(item, ids) for item in body]
    if isinstance(body, dict):
        told = {name: value for name, value in body.items() if name not in _DIFFERENT_EACH_TIME | {"instance"}}
        return {**told, "id": _number_of(body["id"], ids)} if "id" in body else told
    return body
