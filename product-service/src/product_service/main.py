"""The composition of the product service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy.orm import Session

from auth_client.client import IdentityClient
from chassis import logs
from chassis.database.migrations import Migrations
from chassis.database.purge import prune_for_ever
from chassis.database.transactions import Database, UnitOf
from chassis.http import application, health
from chassis.settings import load
from product_service import __version__
from product_service.api import health as own_health
from product_service.api import import_export as transfer
from product_service.api import products
from product_service.models import Base
from product_service.models.products import MADE_BY_MIGRATIONS
from product_service.repositories.changes import ChangeRepository
from product_service.repositories.idempotency import KeptAnswerRepository
from product_service.repositories.products import ProductRepository
from product_service.services.idempotency import Idempotency
from product_service.services.import_export import Imports
from product_service.services.products import Products
from product_service.settings import Settings

DESCRIPTION = """A product catalogue: reads are public, and whoever writes is vouched for by the user service.

To write: press "Authorize" and give the name and password of an account, which the user service opens for you.
"""


PRUNE_EVERY = 600.0
"""Seconds between two looks for answers that are kept no longer."""


def create_app(settings: Settings) -> FastAPI:
    database = database_of(settings)
    service_key = settings.service_key.get_secret_value() if settings.service_key else None
    identity = IdentityClient(settings.user_service_url, settings.validation_timeout, service_key)
    readiness = health.Readiness(database, migrations(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        pruning = asyncio.create_task(prune_for_ever(remove_expired, PRUNE_EVERY))
        with readiness.draining_on_sigterm(settings.drain_seconds):
            yield
        pruning.cancel()
        await identity.close()
        database.close()

    app = application.build(
        settings,
        title="Product service",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        routers=[products.router, transfer.router, own_health.router(readiness, identity), health.router(readiness)],
        log_in_at=settings.user_service_public_url,
    )

    build = products_of(settings)

    def build_idempotency(session: Session) -> Idempotency:
        return Idempotency(KeptAnswerRepository(session))

    async def remove_expired(limit: int) -> int:
        return await database.write(lambda session: build_idempotency(session).remove_expired(limit))

    app.state.max_import_bytes = settings.max_import_bytes
    app.state.identity = identity
    app.state.read_products = UnitOf(database.read, build)
    app.state.write_products = UnitOf(database.write, build)
    app.state.imports = Imports(app.state.write_products)
    app.state.write_once = UnitOf(database.write, lambda session: (build(session), build_idempotency(session)))
    return app


def database_of(settings: Settings) -> Database:
    return Database(
        settings.database_url,
        settings.database_pool_size,
        settings.database_pool_timeout,
        settings.database_timeout,
    )


def products_of(settings: Settings) -> Callable[[Session], Products]:
    """Makes the service on the session of a transaction."""
    return lambda session: Products(
        ProductRepository(session), ChangeRepository(session), settings.product_write_access
    )


def migrations(settings: Settings) -> Migrations:
    folder = Path(__file__).parent / "migrations"
    return Migrations(folder, Base.metadata, settings.database_url, MADE_BY_MIGRATIONS)


def documented_app() -> FastAPI:
    """An application of which only the document is wanted: made of the defaults, whatever the environment says."""
    return create_app(Settings.model_construct(database_url="sqlite:///unused.db"))


def create_worker_app() -> FastAPI:
    """The application of one worker process, which reads its settings by itself."""
    settings = load(Settings)
    logs.configure(settings.service, settings.log_level, settings.log_format)
    return create_app(settings)
