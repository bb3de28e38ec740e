"""Composition root of the user service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI
from pydantic import SecretStr

from chassis import logs
from chassis.database.migrations import Migrations
from chassis.database.purge import purge_periodically
from chassis.database.transactions import Database
from chassis.errors import READ_ERRORS
from chassis.http import application, health
from chassis.rate_limits import IN_MEMORY, RateLimits
from chassis.settings import load
from user_service import __version__
from user_service.api import accounts, sessions, tokens, users, validation
from user_service.api import health as user_service_health
from user_service.api.refresh_cookie import RefreshCookie
from user_service.models import Base
from user_service.repositories import Repositories
from user_service.security.access_tokens import Tokens
from user_service.security.keys import signing_key
from user_service.security.passwords import Passwords
from user_service.security.throttling import Throttle
from user_service.services.accounts import Accounts
from user_service.services.administration import Administration
from user_service.services.sessions import Sessions
from user_service.settings import SAMPLE_KEYS, Settings

DESCRIPTION = """Accounts, login, access tokens and token validation.

To get started, create an account with `POST /register`. Then press "Authorize" and enter its username and password.
"""

TAGS = {
    "accounts": "Create an account; show, change and delete your own.",
    "sessions": "Log in and out, refresh tokens, and list or revoke your sessions.",
    "tokens": "Token validation, for other services.",
    "administration": "Manage all accounts; for admins only.",
    "health": "The state of the service, for people and for orchestrators.",
}
"""The groups of operations, in the order of the documentation pages."""

PURGE_INTERVAL = 600.0
"""Seconds between two purges of expired sessions."""


class Services:
    """The service layer with its dependencies, for the API and the command line."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database.from_settings(settings, Repositories)
        self._passwords = Passwords(settings.bcrypt_cost, settings.password_queue_timeout)
        self._rate_limits = RateLimits(settings.rate_limit_storage_url)
        keys = [signing_key(settings.secret_key, settings.development_key_file)]
        keys += [key.encode() for key in settings.secret_keys_accepted]
        logins = Throttle(
            self._rate_limits,
            "login",
            settings.rate_limit_login,
            settings.rate_limit_login_address,
            suspicious=settings.rate_limit_login_account,
            queue_timeout=settings.password_queue_timeout,
        )
        registrations, refreshes = (
            Throttle(self._rate_limits, operation, per_account, per_address)
            for operation, per_account, per_address in (
                ("register", settings.rate_limit_register, settings.rate_limit_register_address),
                ("refresh", settings.rate_limit_refresh, settings.rate_limit_refresh_address),
            )
        )
        self.accounts = Accounts(
            self.database,
            self._passwords,
            registrations,
            logins,
            registration_open=settings.registration == "open",
            reserved_usernames=settings.reserved_usernames,
            password_min_length=settings.password_min_length,
            reject_common_passwords=settings.reject_common_passwords,
        )
        self.administration = Administration(self.database)
        self.sessions = Sessions(
            self.database,
            self._passwords,
            Tokens(keys, settings.access_token_lifetime, settings.clock_leeway),
            keys,
            settings.refresh_token_lifetime,
            logins,
            refreshes,
            max_lifetime=settings.session_max_lifetime,
            max_sessions=settings.max_sessions_per_user,
        )

    async def close(self) -> None:
        await self._rate_limits.close()
        self._passwords.close()
        self.database.close()


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
            with readiness.draining_on_sigterm(settings.drain_seconds):
                yield
        finally:
            purging.cancel()
            learning.cancel()
            await services.close()

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
            validation.router(services.sessions, settings.service_keys),
            users.router(services.administration, services.accounts),
            user_service_health.router(readiness),
            health.router(readiness),
        ],
        authenticate=services.sessions.identify,
        allow_credentials=settings.refresh_token_cookie,
    )
    app.state.services = services
    return app


def migrations(settings: Settings) -> Migrations:
    return Migrations(Path(__file__).parent / "migrations", Base.metadata, settings.database_url)


def prepare(settings: Settings) -> None:
    """Run once before the workers start; raises OSError if the development key can't be saved."""
    signing_key(settings.secret_key, settings.development_key_file)
    if settings.workers > 1 and settings.rate_limit_storage_url == IN_MEMORY:
        logs.get("user_service.main").warning(
            "each worker counts attempts separately: set RATE_LIMIT_STORAGE_URL", workers=settings.workers
        )


def documented_app() -> FastAPI:
    """An application built only for its OpenAPI document, with default settings that ignore the environment."""
    return create_app(
        Settings.model_construct(database_url="sqlite:///unused.db", secret_key=SecretStr(SAMPLE_KEYS[0]))
    )


def create_worker_app() -> FastAPI:
    """The application of one worker process, which loads the settings itself."""
    settings = load(Settings)
    logs.configure(settings.service, settings.log_level, settings.log_format)
    return create_app(settings)
