"""Health check of the user service."""

from chassis.http.health import Health, Readiness
from chassis.http.routing import Router
from user_service import __version__
from user_service.settings import Settings


def router(readiness: Readiness) -> Router:
    health = Router(tags=["health"])

    @health.get("/health", summary="Health check", response_description="Always 200; see `status`.")
    async def show_health() -> Health:
        """`degraded` if the database does not respond. Orchestrators use `/health/ready`."""
        database = await readiness.database_answers()
        return Health(
            status="ok" if database else "degraded",
            service=Settings.service,
            version=__version__,
            database="ok" if database else "unavailable",
        )

    return health
