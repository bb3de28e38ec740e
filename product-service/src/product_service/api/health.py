"""The health endpoint of the product service."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from auth_client.client import AuthClient
from chassis.http.health import Health, Readiness
from chassis.http.routing import Router
from chassis.times import Time
from product_service import __version__
from product_service.settings import Settings


class UserServiceHealth(BaseModel):
    url: str | None = Field(description="`USER_SERVICE_URL`; null in production, where it may be an internal address.")
    status: Literal["ok", "unavailable"] = Field(description="Whether it responds. Checked at most every 5 seconds.")
    breaker: Literal["closed", "open", "half-open"] = Field(
        description="The circuit breaker. `open`: protected requests fail with 503; `half-open`: one request probes."
    )
    last_success: Time | None = Field(
        description="When this process last had a token validated; null if it has not yet."
    )


class ProductServiceHealth(Health):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ok",
                    "service": "product-service",
                    "version": "1.0.0",
                    "database": "ok",
                    "user_service": {
                        "url": "http://localhost:8001",
                        "status": "ok",
                        "breaker": "closed",
                        "last_success": "2026-01-31T12:00:00.000000Z",
                    },
                }
            ]
        }
    )

    user_service: UserServiceHealth


def router(readiness: Readiness, auth: AuthClient, *, shows_url: bool) -> Router:
    """:param shows_url: whether everyone may know the URL of the user service"""
    routes = Router(tags=["health"])

    @routes.get("/health", summary="Health check", response_description="Always 200; see `status`.")
    async def show_health() -> ProductServiceHealth:
        """`degraded` if the user service is unavailable: reads work, and writes fail with 503."""
        database, user_service = await readiness.database_answers(), await auth.is_reachable()
        return ProductServiceHealth(
            # With a wrong SERVICE_KEY, the user service is reachable but rejects every validation.
            status="ok" if database and user_service and auth.breaker_state != "open" else "degraded",
            service=Settings.service,
            version=__version__,
            database="ok" if database else "unavailable",
            user_service=UserServiceHealth(
                url=auth.url if shows_url else None,
                status="ok" if user_service else "unavailable",
                breaker=auth.breaker_state,
                last_success=auth.last_success,
            ),
        )

    return routes
