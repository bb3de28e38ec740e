"""The health of the product service, for people."""

from auth_client.client import IdentityClient
from chassis.http.health import Readiness
from chassis.http.routing import Router
from product_service import __version__
from product_service.schemas import ProductServiceHealth, UserServiceHealth
from product_service.settings import Settings


def router(readiness: Readiness, identity: IdentityClient) -> Router:
    health = Router(tags=["health"])

    @health.get("/health", summary="How is the service?", response_description="Always 200; see `status`.")
    async def show_health() -> ProductServiceHealth:
        """Without the user service it is degraded, not down: reads go on, writes are a 503."""
        database, user_service = await readiness.database_answers(), await identity.answers()
        return ProductServiceHealth(
            # With a SERVICE_KEY that is not the right one the user service answers, and validates nothing.
            status="ok" if database and user_service and identity.breaker != "open" else "degraded",
            service=Settings.service,
            version=__version__,
            database="ok" if database else "unavailable",
            user_service=UserServiceHealth(
                url=identity.url,
                status="ok" if user_service else "unavailable",
                breaker=identity.breaker,
                last_success=identity.last_success,
            ),
        )

    return health
