"""Helpers for tests of rate limits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from testkit.applications import running
from testkit.users import PASSWORD, MakeSettings
from user_service.main import create_app

HOME, ELSEWHERE = "203.0.113.5", "198.51.100.7"


@asynccontextmanager
async def at(app: FastAPI, address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with this IP address."""
    transport = httpx.ASGITransport(app, client=(address, 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@asynccontextmanager
async def limited(make_settings: MakeSettings, **changes: object) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    """An application with these settings and an account for ada, and a client at HOME."""
    app = create_app(make_settings(**changes))
    async with running(app), at(app, HOME) as client:
        assert (await client.post("/register", json={"username": "ada", "password": PASSWORD})).status_code == 201
        yield client, app


async def attempt(client: httpx.AsyncClient, username: str = "ada", password: str = "wrong") -> int:
    return (await client.post("/login", json={"username": username, "password": password})).status_code


async def attempts(client: httpx.AsyncClient, *usernames: str) -> list[int]:
    return [await attempt(client, username) for username in usernames]
