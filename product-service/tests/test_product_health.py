"""Health endpoints of the product service."""

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import Engine, text

from product_service.main import create_app
from testkit.applications import running
from testkit.library import logged
from testkit.products import DRAFT, MakeSettings, bearer, create
from testkit.user_service_stub import ADA, UserServiceStub


@pytest.mark.alone
async def test_all_dependencies_are_ok(client: httpx.AsyncClient, user_service: UserServiceStub) -> None:
    answer = await client.get("/health")
    assert answer.status_code == 200
    assert {**answer.json(), "version": "?"} == {
        "status": "ok",
        "service": "product-service",
        "version": "?",
        "database": "ok",
        "user_service": {"url": user_service.url, "status": "ok", "breaker": "closed", "last_success": None},
    }


async def test_health_shows_no_internal_address_in_production(
    make_settings: MakeSettings, user_service: UserServiceStub
) -> None:
    async with running(create_app(make_settings(environment="production"))) as client:
        health = (await client.get("/health")).json()
    assert (health["status"], health["user_service"]["url"]) == ("ok", None)
    assert user_service.url not in json.dumps(health)


@pytest.mark.alone
async def test_user_service_outage_degrades_health_but_not_readiness(
    client: httpx.AsyncClient, user_service: UserServiceStub
) -> None:
    user_service.stop()
    health = await client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["user_service"] == {
        "url": user_service.url,
        "status": "unavailable",
        "breaker": "closed",
        "last_success": None,
    }
    assert (await client.get("/health/ready")).status_code == 200
    assert (await client.get("/health/live")).status_code == 200


@pytest.mark.alone
async def test_health_shows_breaker_and_last_validation(
    client: httpx.AsyncClient, user_service: UserServiceStub
) -> None:
    await create(client)
    before = (await client.get("/health")).json()["user_service"]
    assert before["breaker"] == "closed"
    assert abs(datetime.now(UTC) - datetime.fromisoformat(before["last_success"])) < timedelta(seconds=10)
    user_service.answer = lambda _: (500, b"")
    answers = [await client.post("/products", json=DRAFT, headers=bearer(ADA)) for _ in range(6)]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "auth-unavailable")}
    # The open breaker rejects the last request without calling the user service.
    assert [answer.headers["retry-after"] for answer in answers] == ["2"] * 5 + ["1"]
    assert len(user_service.requests) == 6
    health = (await client.get("/health")).json()
    # The user service is reachable, but validations fail.
    assert (health["status"], health["user_service"]) == ("degraded", {**before, "breaker": "open"})
    assert (await client.get("/health/ready")).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
async def test_health_checks_are_logged_at_debug(client: httpx.AsyncClient, path: str) -> None:
    with logged("DEBUG") as log:
        await client.get(path)
        await client.get("/products")
    assert [(line["route"], line["level"]) for line in log.requests] == [(path, "debug"), ("/products", "info")]


@pytest.mark.alone
async def test_database_without_migrations_is_not_ready(client: httpx.AsyncClient, database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    ready = await client.get("/health/ready")
    assert (ready.status_code, ready.json()["code"]) == (503, "migrations-behind")
    assert (await client.get("/health/live")).status_code == 200
