"""The composition of the user service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy.orm import Session

from chassis import application, health, logs
from chassis.database import Database, UnitOf
from chassis.migrations import Migrations
from chassis.settings import load
from user_service import __version__
from user_service.api import accounts, sessions, users, validation
from user_service.api import health as own_health
from user_service.keys import accepted_keys
from user_service.models import Base
from user_service.passwords import Passwords
from user_service.refresh_tokens import RefreshTokens
from user_service.repositories import Repositories
from user_service.repositories.sessions import SessionRepository
from user_service.repositories.users import UserRepository
from user_service.services.accounts import Accounts
from user_service.services.administration import Administration
from user_service.services.sessions import Sessions
from user_service.settings import SAMPLE_KEYS, Settings
from user_service.tokens import Tokens

DESCRIPTION = """Accounts, login and access tokens, and the one place where a token is checked.

To begin: open an account with `POST /register`, then press "Authorize" and give its name and password.
"""


def create_app(settings: Settings) -> FastAPI:
    database = Database(
        settings.database_url,
        settings.database_pool_size,
        settings.database_pool_timeout,
        settings.database_timeout,
    )
    passwords = Passwords(settings.bcrypt_cost)
    readiness = health.Readiness(database, migrations(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with readiness.draining_on_sigterm(settings.drain_seconds):
            yield
        passwords.close()
        database.close()

    app = application.build(
        settings,
        title="User service",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        routers=[
            accounts.router,
            sessions.router,
            validation.router,
            users.router,
            own_health.router(readiness),
            health.router(readiness),
        ],
    )
    read, write = UnitOf(database.read, _repositories), UnitOf(database.write, _repositories)
    keys = accepted_keys(settings)
    app.state.accounts = Accounts(read, write, passwords, settings.password_min_length)
    app.state.service_keys = settings.service_keys
    app.state.administration = Administration(read, write)
    app.state.sessions = Sessions(
        read,
        write,
        passwords,
        Tokens(keys, settings.access_token_lifetime),
        RefreshTokens(keys),
        settings.refresh_token_lifetime,
    )
    return app


def _repositories(session: Session) -> Repositories:
    return Repositories(UserRepository(session), SessionRepository(session))


def migrations(settings: Settings) -> Migrations:
    return Migrations(Path(__file__).parent / "migrations", Base.metadata, settings.database_url)


def documented_app() -> FastAPI:
    """An application of which only the document is wanted: made of the defaults, whatever the environment says."""
    return create_app(
        Settings.model_construct(database_url="sqlite:///unused.db", secret_key=SecretStr(SAMPLE_KEYS[0]))
    )


def create_worker_app() -> FastAPI:
    """The application of one worker process, which reads its settings by itself."""
    settings = load(Settings)
    logs.configure(settings.service, settings.log_level, settings.log_format)
    return create_app(settings)
