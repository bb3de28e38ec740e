"""Composition root of the product service: its application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from auth_client.client import AuthClient
from chassis import logs, metrics
from chassis.database.purge import purge_periodically
from chassis.http import application, health
from chassis.process.configuration import load
from chassis.process.watchdog import watched_loop
from product_service import __version__
from product_service.api import health as product_service_health
from product_service.api import import_export, products
from product_service.composition import Services, migrations
from product_service.settings import Settings

DESCRIPTION = """A product catalogue. Reads are public; writes require an access token of the user service.

To write, register an account with the user service. Then select "Authorize" and enter its username and password.
"""

TAGS = {
    "products": "The catalogue: search and show products, change your own, and import or export files.",
    "health": "The state of the service, for people and for orchestrators.",
}
"""The groups of operations, in the order of the documentation pages."""

PURGE_INTERVAL = 600.0
"""Seconds between purges of expired idempotency records."""


def create_app(settings: Settings) -> FastAPI:
    services = Services(settings)
    auth = AuthClient.from_settings(settings)
    readiness = health.Readiness(services.database, migrations(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        purging = asyncio.create_task(purge_periodically(services.idempotency_records.purge, PURGE_INTERVAL))
        try:
            with readiness.draining_on_sigterm(settings.drain_seconds), watched_loop(settings.watchdog_seconds):
                yield
        finally:
            purging.cancel()
            await auth.close()
            services.close()

    app = application.build(
        settings,
        title="Product service",
        version=__version__,
        description=DESCRIPTION,
        tags=TAGS,
        lifespan=lifespan,
        routers=[
            products.router(services.products, services.public_products, services.write_limit),
            import_export.router(services.products, services.imports, services.write_limit, settings),
            product_service_health.router(readiness, auth, shows_url=settings.environment == "development"),
            health.router(readiness),
        ],
        is_draining=readiness.is_draining,
        authenticate=auth.validate,
        login_origin=settings.login_origin,
    )
    app.state.services = services
    return app


def documented_app() -> FastAPI:
    """The application for generating the OpenAPI document: it uses default settings and ignores the environment."""
    return create_app(Settings.model_construct(database_url="sqlite:///unused.db"))


def create_worker_app() -> FastAPI:
    """The application of one worker process, which loads its own settings."""
    settings = load(Settings)
    logs.configure(settings.service, settings.log_level, settings.log_format)
    if settings.metrics_port is not None:
        metrics.record()
    return create_app(settings)
