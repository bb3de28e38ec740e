"""The composition of the product service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from auth_client.client import AuthClient
from chassis import logs
from chassis.database.migrations import Migrations
from chassis.database.purge import purge_periodically
from chassis.database.transactions import Database
from chassis.http import application, health
from chassis.settings import load
from product_service import __version__
from product_service.api import health as product_service_health
from product_service.api import import_export, products
from product_service.models import Base
from product_service.models.products import MADE_BY_MIGRATIONS
from product_service.repositories import Repositories
from product_service.services.idempotency import IdempotencyRecords
from product_service.services.import_export import Imports
from product_service.services.products import Products
from product_service.settings import Settings

DESCRIPTION = """A product catalogue: reads are public, and whoever writes is vouched for by the user service.

To write: press "Authorize" and give the name and password of an account, which the user service opens for you.
"""

PURGE_EVERY = 600.0
"""Seconds between two looks for idempotency records that have expired."""


class Services:
    """What may be done with the catalogue, with all that it needs; for the API, and for the command line."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database.from_settings(settings, Repositories)
        self.products = Products(self.database, settings.product_write_access)
        self.imports = Imports(self.products)
        self.idempotency_records = IdempotencyRecords(self.database)

    def close(self) -> None:
        self.database.close()


def create_app(settings: Settings) -> FastAPI:
    services = Services(settings)
    auth = AuthClient.from_settings(settings)
    readiness = health.Readiness(services.database, migrations(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        purging = asyncio.create_task(purge_periodically(services.idempotency_records.purge, PURGE_EVERY))
        with readiness.draining_on_sigterm(settings.drain_seconds):
            yield
        purging.cancel()
        await auth.close()
        services.close()

    app = application.build(
        settings,
        title="Product service",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        routers=[
            products.router(services.products),
            import_export.router(services.products, services.imports, settings.max_import_bytes),
            product_service_health.router(readiness, auth),
            health.router(readiness),
        ],
        authenticate=auth.validate,
        login_origin=settings.user_service_public_url,
    )
    app.state.services = services
    return app


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
