"""The settings of the user service."""

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from chassis.settings import CommaSeparated, ServiceSettings
from user_service.security import rate_limits

SHORTEST_KEY = 32  # bytes; RFC 7518, section 3.2, for HS256
CHEAPEST_PRODUCTION_COST = 12
# A key travels in a header, so that it is of printable ASCII, and in a list, so that it has no comma.
_NAMED_KEY = re.compile(rf"(?P<name>[A-Za-z0-9._-]+):(?P<key>[!-+\--~]{{{SHORTEST_KEY},}})")
SAMPLE_SERVICE_KEY = "development-only-key-of-the-product-service"  # It stands in docker-compose.yml.
SAMPLE_KEYS = ("change-me-to-a-random-string-of-at-least-32-bytes",)


def _named_keys(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    named = [_NAMED_KEY.fullmatch(entry.strip()) for entry in value.split(",") if entry.strip()]
    keys = {match["name"]: match["key"] for match in named if match}
    if not all(named):
        raise ValueError(f"must be like name:key,name:key, each key {SHORTEST_KEY} or more letters, digits and signs")
    if len(keys) != len(named):
        raise ValueError("has the same name twice")
    return keys


ServiceKeys = Annotated[dict[str, str], NoDecode, BeforeValidator(_named_keys)]
"""Keys by the names of those who have them; several at once for one caller make a change of its key possible."""


def _require_key(key: str) -> None:
    """Raise ValueError for what cannot sign, or would not be the same key in SECRET_KEYS_ACCEPTED."""
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text") from None
    if length < SHORTEST_KEY:
        raise ValueError(f"has to be at least {SHORTEST_KEY} bytes long")
    if "," in key or key != key.strip():
        raise ValueError("must have no comma in it, and no space at either end")
    if "ssh-rsa" in key or "-----BEGIN" in key:
        raise ValueError("is a key of a pair, and HS256 signs with a random text")


def _is_rate_limit(text: str) -> str:
    rate_limits.parse(text)
    return text


RateLimit = Annotated[str, AfterValidator(_is_rate_limit)]
"""Like `10/minute`, or `10/minute; 100/hour`, or `off`."""


class Settings(ServiceSettings):
    service: ClassVar[str] = "user-service"

    port: int = Field(default=8001, ge=1, le=65535, description="The port to listen on.")
    secret_key: SecretStr | None = Field(
        default=None,
        description="Signs access tokens: at least 32 random bytes. Unset: in development one is made and kept "
        "in `DATA_DIR`, in production the service does not start.",
    )
    secret_keys_accepted: CommaSeparated = Field(
        default=[],
        description="Keys whose tokens are accepted too, separated by commas: older ones, and the next one.",
        repr=False,
    )
    service_keys: ServiceKeys = Field(
        default={},
        description="Who may ask `/validate-token`, as `name:key,name:key`; unset: whoever reaches it.",
        repr=False,
    )
    access_token_expire_minutes: int = Field(
        default=15, ge=1, le=24 * 60, description="Minutes that an access token is valid."
    )
    refresh_token_expire_days: int = Field(
        default=30, ge=1, le=3650, description="Days that a session goes on after it was last refreshed."
    )
    password_min_length: int = Field(default=8, ge=1, le=128, description="The fewest characters of a new password.")
    bcrypt_cost: int = Field(
        default=12, ge=4, le=17, description="Cost of a password hash; each step doubles it. Production refuses less."
    )
    password_queue_timeout: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Seconds that a login waits for its turn to have the password checked, before a 503.",
    )
    rate_limit_login: RateLimit = Field(
        default="10/minute",
        description="Failed attempts to prove the password of one account from one address. "
        "More than one limit: `10/minute; 50/hour`; none: `off`.",
    )
    rate_limit_login_address: RateLimit = Field(
        default="100/minute", description="Logins from one address (of IPv6: from one /64), whatever the account."
    )
    rate_limit_register: RateLimit = Field(
        default="10/minute", description="Registrations of one name from one address."
    )
    rate_limit_register_address: RateLimit = Field(
        default="30/minute", description="Registrations from one address, whatever the name."
    )
    rate_limit_refresh: RateLimit = Field(default="30/minute", description="Refreshes of one session from one address.")
    rate_limit_refresh_address: RateLimit = Field(
        default="600/minute", description="Refreshes from one address, whatever the session."
    )
    rate_limit_storage_url: Annotated[str, AfterValidator(rate_limits.check_storage_url)] = Field(
        default="memory://",
        description="Where attempts are counted: in each process by itself, or for all of them in Redis or Valkey: "
        "`redis://:password@host:6379/0`, `rediss://` with TLS.",
        repr=False,
    )
    trusted_proxies: CommaSeparated = Field(
        default=[],
        description="Addresses or networks of the reverse proxies in front; the client's address is taken from "
        "`X-Forwarded-For` only where they say so.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: list[str]) -> list[str]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ValueError("each must be like 10.0.0.5 or 10.0.0.0/8") from None
        return proxies

    @field_validator("secret_keys_accepted")
    @classmethod
    def _are_keys(cls, keys: list[str]) -> list[str]:
        for key in keys:
            _require_key(key)
        return keys

    @field_validator("secret_key")
    @classmethod
    def _is_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            _require_key(key.get_secret_value())
        return key

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        key = self.secret_key.get_secret_value() if self.secret_key else None
        kept = self.development_key_file
        if key is None and kept.is_file() and kept.stat().st_size < SHORTEST_KEY:
            raise ValueError(f"{kept} holds no key of at least {SHORTEST_KEY} bytes: remove it, and one is made")
        if self.environment == "production":
            if key is None:
                raise ValueError("SECRET_KEY has to be set in production")
            if key in SAMPLE_KEYS:
                raise ValueError("SECRET_KEY is the sample from the documentation; make one of your own")
            if set(self.secret_keys_accepted) & set(SAMPLE_KEYS):
                raise ValueError("SECRET_KEYS_ACCEPTED has the sample from the documentation; take it out")
            if SAMPLE_SERVICE_KEY in self.service_keys.values():
                raise ValueError("SERVICE_KEYS has the key of docker-compose.yml; choose one of your own")
            if self.bcrypt_cost < CHEAPEST_PRODUCTION_COST:
                raise ValueError(f"BCRYPT_COST has to be at least {CHEAPEST_PRODUCTION_COST} in production")
        return self

    @property
    def access_token_lifetime(self) -> timedelta:
        return timedelta(minutes=self.access_token_expire_minutes)

    @property
    def refresh_token_lifetime(self) -> timedelta:
        return timedelta(days=self.refresh_token_expire_days)

    @property
    def development_key_file(self) -> Path:
        return self.data_dir / "secret-key"
