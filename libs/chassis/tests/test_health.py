"""Readiness, with and without a database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from chassis.http import health
from testkit.applications import running
from testkit.library import BlockedWork, make_app, opened
from testkit.library_migrations import make_migrations
from testkit.postgresql_proxy import Proxy


@asynccontextmanager
async def health_of(tmp_path: Path, url: str) -> AsyncIterator[httpx.AsyncClient]:
    with opened(url, pool_size=2, pool_timeout=0.5) as database:
        readiness = health.Readiness(database, make_migrations(tmp_path, url))
        async with running(make_app(health.router(readiness))) as client:
            yield client


async def test_a_migrated_database_makes_the_service_ready(tmp_path: Path, empty_url: str) -> None:
    make_migrations(tmp_path, empty_url).upgrade()
    async with health_of(tmp_path, empty_url) as client:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_the_service_is_unready_until_migrated(tmp_path: Path, empty_url: str) -> None:
    migrations = make_migrations(tmp_path, empty_url)
    async with health_of(tmp_path, empty_url) as client:
        for revision in ("0001", "0002"):
            answer = await client.get("/health/ready")
            assert (answer.status_code, answer.json()["code"]) == (503, "migrations-behind")
            assert answer.headers["retry-after"] == "2"
            migrations.upgrade(revision)
        assert (await client.get("/health/ready")).status_code == 200


def missing_database(url: str, tmp_path: Path) -> str:
    """A similar address without a database."""
    if make_url(url).get_backend_name() == "sqlite":
        (tmp_path / "missing_database").write_bytes(b"no database " * 1000)
        return f"sqlite:///{tmp_path / 'missing_database'}"
    return make_url(url).set(database="missing_database").render_as_string(hide_password=False)


async def test_an_unavailable_database_makes_the_service_unready_but_alive(tmp_path: Path, empty_url: str) -> None:
    async with health_of(tmp_path, missing_database(empty_url, tmp_path)) as client:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
        assert "missing_database" not in answer.text
        alive = await client.get("/health/live")
        assert (alive.status_code, alive.json()) == (200, {"status": "alive"})


@pytest.mark.postgresql
async def test_a_service_that_was_ready_stays_ready_without_its_database(tmp_path: Path, empty_url: str) -> None:
    make_migrations(tmp_path, empty_url).upgrade()
    with Proxy(empty_url) as proxy:
        async with health_of(tmp_path, proxy.url) as client:
            assert (await client.get("/health/ready")).status_code == 200
            proxy.hang()
            async with asyncio.timeout(2):  # Without a limit, the check would take longer than probes wait.
                assert (await client.get("/health/ready")).status_code == 200
            proxy.resume_without_old_connections()


async def test_waiting_requests_do_not_make_the_service_unready(tmp_path: Path, empty_url: str) -> None:
    """The other instances would get its share, and become unready next."""
    make_migrations(tmp_path, empty_url).upgrade()
    with opened(empty_url, pool_size=2, pool_timeout=60) as database:
        readiness = health.Readiness(database, make_migrations(tmp_path, empty_url))
        await readiness.check()
        work = BlockedWork(lambda _: None)
        task = asyncio.create_task(database.read(work))
        await work.entered()
        async with asyncio.timeout(10):
            await readiness.check()
        work.release()
        await task


async def test_database_answers_never_raises(tmp_path: Path, empty_url: str) -> None:
    for url, answers in ((empty_url, True), (missing_database(empty_url, tmp_path), False)):
        with opened(url, pool_size=2, pool_timeout=0.5) as database:
            assert await health.Readiness(database, make_migrations(tmp_path, url)).database_answers() is answers
