"""The vocabulary of the endpoints' signatures."""

from typing import Annotated

from fastapi import Depends, Request

from chassis.bearer import BearerToken
from chassis.database import Unit
from product_service.identity import Caller, IdentityClient
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
