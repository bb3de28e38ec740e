"""Applications that run inside the test's process, without a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client of an application that runs."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[FastAPI]:
    """Start the application, and stop it afterwards."""
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Start the application, yield a client for it, and stop the application afterwards."""
    async with started(app), client_of(app) as client:
        yield client
