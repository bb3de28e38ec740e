"""Composition root of the user service: its application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from pydantic import SecretStr

from chassis import logs, metrics
from chassis.database.purge import purge_periodically
from chassis.errors import READ_ERRORS
from chassis.http import application, health
from chassis.process.configuration import load
from chassis.process.watchdog import watched_loop
from user_service import __version__
from user_service.api import accounts, forward_auth, introspection, sessions, tokens, users, validation
from user_service.api import health as user_service_health
from user_service.api.refresh_cookie import RefreshCookie
from user_service.composition import Services, migrations
from user_service.security.service_keys import ServiceKeys
from user_service.settings import SAMPLE_KEYS, Settings

DESCRIPTION = """Accounts, login, access tokens and token validation.

To get started, create an account with `POST /register`. Then press "Authorize" and enter its username and password.
"""

TAGS = {
    "accounts": "Create an account; show, change and delete your own.",
    "sessions": "Log in and out, refresh tokens, and list or revoke your sessions.",
    "tokens": "Token validation, for other services and for gateways.",
    "administration": "Manage all accounts; for admins only.",
    "health": "The state of the service, for people and for orchestrators.",
}
"""The groups of operations, in the order of the documentation pages."""

PURGE_INTERVAL = 600.0
"""Seconds between two purges of expired sessions."""


async def learn_costs(services: Services) -> None:
    with suppress(*READ_ERRORS):
        await services.sessions.learn_costs()


def create_app(settings: Settings) -> FastAPI:
    services = Services(settings)
    readiness = health.Readiness(services.database, migrations(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        purging = asyncio.create_task(purge_periodically(services.sessions.purge, PURGE_INTERVAL))
        learning = asyncio.create_task(learn_costs(services))
        try:
            with readiness.draining_on_sigterm(settings.drain_seconds), watched_loop(settings.watchdog_seconds):
                yield
        finally:
            purging.cancel()
            learning.cancel()
            await services.close()

    service_keys = ServiceKeys(settings.service_keys)
    cookie = RefreshCookie(settings.allows_origin) if settings.refresh_token_cookie else None
    app = application.build(
        settings,
        title="User service",
        version=__version__,
        description=DESCRIPTION,
        tags=TAGS,
        lifespan=lifespan,
        routers=[
            accounts.router(services.accounts, services.sessions),
            tokens.router(services.sessions, cookie),
            sessions.router(services.sessions, cookie),
            validation.router(services.sessions, service_keys),
            introspection.router(services.sessions, service_keys),
            forward_auth.router(),
            users.router(services.administration, services.accounts),
            user_service_health.router(readiness),
            health.router(readiness),
        ],
        is_draining=readiness.is_draining,
        authenticate=services.sessions.identify,
        allow_credentials=settings.refresh_token_cookie,
        without_cors=forward_auth.PATH,
    )
    app.state.services = services
    return app


def documented_app() -> FastAPI:
    """An application built only for its OpenAPI document, with default settings that ignore the environment."""
    return create_app(
        Settings.model_construct(database_url="sqlite:///unused.db", secret_key=SecretStr(SAMPLE_KEYS[0]))
    )


def create_worker_app() -> FastAPI:
    """The application of one worker process, which loads the settings itself."""
    settings = load(Settings)
    logs.configure(settings.service, settings.log_level, settings.log_format)
    if settings.metrics_port is not None:
        metrics.record()
    return create_app(settings)
