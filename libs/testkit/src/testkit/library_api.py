"""A small HTTP API of the library, on which the tests of `chassis.http` run, with errors of every category."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

import httpx
from fastapi import Header, Query, Request, Response, Security
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from chassis import errors
from chassis.errors import FieldError
from chassis.http.bearer import bearer
from chassis.http.middleware import context_headers
from chassis.http.problems import MEDIA_TYPE, Problem, documented
from chassis.http.query_parameters import QueryParameters
from chassis.http.routing import Router
from chassis.ids import Digits

ORIGIN = "http://localhost:3000"
SECRET = "the-secret-of-the-exception"
TOKEN = {"Authorization": "Bearer a.b-c_d~e+f/g=="}


@dataclass(frozen=True)
class Reader:
    user_id: int


async def accept_any_token(_: str) -> Reader:
    return Reader(user_id=7)


CurrentReader = Annotated[Reader, Security(bearer)]


class Draft(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    price: Decimal = Decimal(1)
    tags: dict[str, int] = {}


class Search(QueryParameters):
    q: str = ""


class MissingBadge(errors.Unauthenticated):
    code = "missing-badge"
    detail = "Please show a badge."


class InvalidBadge(errors.Unauthenticated):
    code = "invalid-badge"
    detail = "The badge is not valid."
    bearer_error = "invalid_token"


class NotYours(errors.Forbidden):
    code = "not-yours"
    detail = "The book belongs to another reader."


class BookNotFound(errors.NotFound):
    code = "book-not-found"
    detail = "There is no such book."


class OnLoan(errors.Conflict):
    code = "on-loan"
    detail = "The book is on loan."


class Closed(errors.Unavailable):
    code = "closed"
    detail = "The library is closed."
    retry_after = timedelta(minutes=1)


ERRORS = {each.code: each for each in (MissingBadge, InvalidBadge, NotYours, BookNotFound, OnLoan, Closed)}


def books() -> Router:
    router = Router(prefix="/books", tags=["books"])

    @router.get("", responses=documented(Closed))
    async def list_books(search: Annotated[Search, Query()]) -> dict[str, str]:
        return {"q": search.q}

    @router.post("", status_code=201, responses=documented(MissingBadge, InvalidBadge, OnLoan))
    async def create_book(draft: Draft, caller: CurrentReader) -> dict[str, Any]:
        return {"price": str(draft.price), "name": draft.name}

    @router.get("/{book_id}")
    async def show_book(book_id: Annotated[int, Digits], request: Request) -> dict[str, Any]:
        request.state.user_id = 7
        return {"id": book_id, "sent_on": context_headers()}

    @router.delete("/{book_id}", status_code=204)
    async def delete_book(book_id: int, caller: CurrentReader) -> Response:
        return Response(status_code=204)

    @router.post("/{book_id}/lend")
    async def lend_book(book_id: int) -> dict[str, int]:
        return {"id": book_id}

    return router


def failures() -> Router:
    """Operations that fail."""
    router = Router(prefix="/failures", tags=["failures"])

    @router.get("/errors/{code}")
    async def raise_error(code: str) -> None:
        raise ERRORS[code]

    @router.get("/invalid")
    async def raise_invalid() -> None:
        raise errors.Invalid([FieldError("/a~1b", "It is too wide."), FieldError("/c", "It is too long.")])

    @router.get("/unexpected")
    async def raise_unexpected() -> None:
        raise ZeroDivisionError(SECRET)

    @router.get("/headers")
    async def require_header(x_count: Annotated[int, Header()]) -> int:
        return x_count

    @router.get("/truncated")
    async def truncate() -> Response:
        async def half() -> AsyncIterator[bytes]:
            yield b"half"
            raise ZeroDivisionError(SECRET)

        return StreamingResponse(half())

    return router


def small_bodies() -> Router:
    router = Router(prefix="/small", tags=["small"], body_limit=100)

    @router.post("")
    async def take_small_body(draft: Draft) -> str:
        return draft.name

    return router


def any_bodies() -> Router:
    router = Router(prefix="/any", tags=["any"])

    @router.post("")
    async def take_any_body(body: dict[str, Any] | list[Any]) -> str:
        return repr(body)

    return router


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that the answer is this problem, with everything that all problems share; return its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    body: dict[str, Any] = answer.json()
    Problem.model_validate(body)
    assert body["type"] == "about:blank"
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == answer.headers["x-request-id"]
    return body
