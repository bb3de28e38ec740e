"""The settings of a service that validates tokens."""

import re
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from chassis.settings import SAMPLE_SERVICE_KEY, ServiceSettings, is_loopback

_SERVICE_KEY = re.compile(r"[!-+\--~]{32,}")  # The form that the user service requires in SERVICE_KEYS.
_NOT_IN_URL = re.compile(r"[\s?#\x00-\x1f\x7f]")
_NOT_A_URL = "must be like http://localhost:8001"


class AuthClientSettings(ServiceSettings):
    """A service that validates tokens derives its settings from this class.

    There is no signing key among them: only the user service can verify a token.
    """

    user_service_url: str = Field(
        default="http://localhost:8001", description="URL of the user service, for token validation."
    )
    user_service_public_url: str = Field(
        default="",
        description="URL of the user service for browsers, to log in on the documentation page. "
        "Default: `USER_SERVICE_URL`. Under docker compose the two differ.",
    )
    service_key: SecretStr | None = Field(
        default=None,
        description="Key that this service sends to the user service; required if that has `SERVICE_KEYS`.",
    )
    validation_timeout: float = Field(
        default=2.0, gt=0, le=30, description="Seconds that one token validation may take in total."
    )

    @property
    def login_origin(self) -> str:
        """The URL of the user service for browsers."""
        return self.user_service_public_url or self.user_service_url

    def unsafe(self) -> list[str]:
        reasons = super().unsafe()
        if self.service_key is None:
            return reasons
        # Imported only here: it takes a tenth of a second, which a start in development need not spend.
        from chassis.guessing import is_guessable_key

        key = self.service_key.get_secret_value()
        if key == SAMPLE_SERVICE_KEY:
            reasons.append("SERVICE_KEY is the sample from docker-compose.yml. Generate your own key")
        elif is_guessable_key(key):
            reasons.append("SERVICE_KEY is too easy to guess. Generate a random key")
        return reasons

    def risky(self) -> list[str]:
        reasons = super().risky()
        url = urlsplit(self.user_service_url)
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            reasons.append("USER_SERVICE_URL has no TLS. Only a private network may carry tokens unencrypted")
        if self.service_key is None:
            reasons.append("SERVICE_KEY is unset. The user service should demand one")
        return reasons

    @field_validator("service_key")
    @classmethod
    def _fits_into_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not _SERVICE_KEY.fullmatch(key.get_secret_value()):
            raise ValueError(
                "must be at least 32 letters, digits and punctuation marks, without commas, spaces or accents, "
                "as in SERVICE_KEYS"
            )
        return key

    @field_validator("user_service_url", "user_service_public_url")
    @classmethod
    def _is_url(cls, url: str, info: ValidationInfo) -> str:
        if not url and info.field_name == "user_service_public_url":
            return url
        try:
            parts = urlsplit(url)
            # Impossible host names and ports are reported at startup, not with each call.
            host, port = (parts.hostname or "").encode("idna"), parts.port
        except ValueError:
            raise ValueError(_NOT_A_URL) from None
        if parts.scheme not in ("http", "https") or not host or port == 0 or _NOT_IN_URL.search(url):
            raise ValueError(_NOT_A_URL)
        if parts.username or parts.password:
            raise ValueError("must not contain a user name or password: /health shows the URL")
        return url.rstrip("/")
