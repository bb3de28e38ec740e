"""The settings of the product service. There is no signing key among them: tokens are the user service's affair."""

import re
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from chassis.settings import ServiceSettings
from product_service.domain.ownership import WriteAccess

_SERVICE_KEY = re.compile(r"[!-+\--~]{32,}")  # As the user service has it in SERVICE_KEYS.
_IN_NO_ADDRESS = re.compile(r"[\s?#\x00-\x1f\x7f]")


class Settings(ServiceSettings):
    service: ClassVar[str] = "product-service"

    port: int = Field(default=8002, ge=1, le=65535, description="The port to listen on.")
    user_service_url: str = Field(
        default="http://localhost:8001", description="Where this service asks the user service about tokens."
    )
    user_service_public_url: str = Field(
        default="http://localhost:8001",
        description="Where a browser on the documentation page logs in; under docker compose not the same.",
    )
    service_key: SecretStr | None = Field(
        default=None, description="What this service shows the user service, where that has `SERVICE_KEYS`."
    )
    validation_timeout: float = Field(
        default=2.0, gt=0, le=30, description="Seconds that one validation of a token may take in all."
    )
    max_import_bytes: int = Field(
        default=104_857_600, ge=1024, description="The largest file that one import takes; a larger one is a 413."
    )
    product_write_access: WriteAccess = Field(
        default="owner", description="Who may change a product: its `owner`, or everybody `authenticated`."
    )

    @field_validator("service_key")
    @classmethod
    def _fits_into_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not _SERVICE_KEY.fullmatch(key.get_secret_value()):
            raise ValueError("must be 32 or more letters, digits and signs without a comma, as in SERVICE_KEYS")
        return key

    @field_validator("user_service_url", "user_service_public_url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            # What no name can be, and no port, is told now and not with each call.
            host, port = (parts.hostname or "").encode("idna"), parts.port
        except ValueError:
            raise ValueError("must be like http://localhost:8001") from None
        if parts.scheme not in ("http", "https") or not host or port == 0 or _IN_NO_ADDRESS.search(url):
            raise ValueError("must be like http://localhost:8001")
        if parts.username or parts.password:
            raise ValueError("must not hold a name or password: it is shown in /health")
        return url.rstrip("/")
