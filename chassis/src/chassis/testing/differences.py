"""Shows that two databases behind a service make no difference to its clients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from chassis.testing import running

_DIFFERENT_EACH_TIME = {"access_token", "created_at", "expires_at", "request_id", "updated_at"}


@dataclass(frozen=True)
class Call:
    """One request; where it has a `token`, that is what is sent as a bearer token."""

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
    location: str | None
    link: str | None
    body: Any


async def answers(app: FastAPI, calls: Sequence[Call]) -> list[Answer]:
    """The application's answers to the calls, made one after the other."""
    seen: list[Answer] = []
    async with running(app) as client:
        for call in calls:
            answer = await client.request(call.method, call.path, json=call.body, headers=call.headers)
            body = _without_what_differs(answer.json()) if answer.content else None
            seen.append(
                Answer(call, answer.status_code, answer.headers.get("location"), answer.headers.get("link"), body)
            )
    return seen


def _without_what_differs(body: Any) -> Any:
    if isinstance(body, list):
        return [_without_what_differs(item) for item in body]
    if isinstance(body, dict):
        return {name: value for name, value in body.items() if name not in _DIFFERENT_EACH_TIME}
    return body
