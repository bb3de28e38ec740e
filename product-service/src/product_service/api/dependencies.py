"""The vocabulary of the endpoints' signatures."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field

from auth_client.client import Caller, IdentityClient
from chassis.database.transactions import Unit
from chassis.http.bearer import BearerToken
from chassis.http.bodies import JSON
from product_service.models.idempotency import LONGEST_KEY
from product_service.services.idempotency import Answer, Idempotency, KeyedRequest
from product_service.services.products import Products


async def _read(request: Request) -> Unit[Products]:
    unit: Unit[Products] = request.app.state.read_products
    return unit


async def _write(request: Request) -> Unit[Products]:
    unit: Unit[Products] = request.app.state.write_products
    return unit


async def _caller(request: Request, token: BearerToken) -> Caller:
    identity: IdentityClient = request.app.state.identity
    caller = await identity.identify(token)
    request.state.user_id = caller.user_id
    return caller


Read = Annotated[Unit[Products], Depends(_read)]
Write = Annotated[Unit[Products], Depends(_write)]
CurrentCaller = Annotated[Caller, Depends(_caller)]
RequireCaller = Depends(_caller)
"""For an operation that is protected, but does not look at who calls."""


class _Once:
    """Does what a request asks for, once for each Idempotency-Key, and answers it."""

    def __init__(self, request: Request, caller: Caller, key: str | None) -> None:
        self._request = request
        self._caller = caller
        self._key = key

    async def __call__(self, content: str, work: Callable[[Products], Answer]) -> Response:
        """
        :param content: all that makes a difference to what is done, in one form
        """
        key = self._key
        if key is None:
            write: Unit[Products] = self._request.app.state.write_products
            return _response(await write(work))
        request = KeyedRequest(self._caller.user_id, key, self._request.method, self._request.url.path, content)

        def do_or_replay(of: tuple[Products, Idempotency]) -> tuple[Answer, bool]:
            products, idempotency = of
            return idempotency.once(request, lambda: work(products))

        write_once: Unit[tuple[Products, Idempotency]] = self._request.app.state.write_once
        answer, replayed = await write_once(do_or_replay)
        return _response(answer, {"Idempotency-Replayed": "true"} if replayed else {})


def _response(answer: Answer, more: dict[str, str] | None = None) -> Response:
    return Response(answer.body, answer.status, {**answer.headers, **(more or {})}, JSON)


async def _once(
    request: Request,
    caller: CurrentCaller,
    key: Annotated[
        Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern="^[!-~]+$")] | None,
        Header(
            alias="Idempotency-Key",
            description="A random text of yours; a request that is sent again with the same one gets the same answer, "
            "and is done once. Kept for 24 hours.",
        ),
    ] = None,
) -> _Once:
    if len(request.headers.getlist("idempotency-key")) > 1:
        mistake = {"type": "value_error", "loc": ("header", "Idempotency-Key"), "msg": "There is more than one key"}
        raise RequestValidationError([mistake])
    return _Once(request, caller, key)


Once = Annotated[_Once, Depends(_once)]
