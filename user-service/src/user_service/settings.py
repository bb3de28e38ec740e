"""Settings of the user service."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from chassis import rate_limits
from chassis.guessing import is_guessable_key
from chassis.rate_limits import RateLimit, StorageUrl
from chassis.settings import SAMPLE_SERVICE_KEY, CommaSeparated, ServiceSettings
from user_service.security.passwords import MAX_COST
from user_service.usernames import RULE, USERNAME

MIN_KEY_BYTES = 32  # bytes; RFC 7518, section 3.2, for HS256
MIN_PRODUCTION_BCRYPT_COST = 12
MIN_PRODUCTION_PASSWORD_LENGTH = 8
LONG_TOKEN_MINUTES = 60
# Keys are sent in a header, so they are printable ASCII, and configured in a list, so they have no comma.
_NAMED_KEY = re.compile(rf"(?P<name>[A-Za-z0-9._-]+):(?P<key>[!-+\--~]{{{MIN_KEY_BYTES},}})")
SAMPLE_KEYS = ("change-me-to-a-random-string-of-at-least-32-bytes",)


def _parse_named_keys(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    named = [_NAMED_KEY.fullmatch(entry.strip()) for entry in value.split(",") if entry.strip()]
    keys = {match["name"]: match["key"] for match in named if match}
    if not all(named):
        raise ValueError(
            f"must be like name:key,name:key, with {MIN_KEY_BYTES} or more letters, digits and symbols per key"
        )
    if len(keys) != len(named):
        raise ValueError("must not have the same name twice")
    return keys


ServiceKeys = Annotated[dict[str, str], NoDecode, BeforeValidator(_parse_named_keys)]
"""Service keys by name. A calling service can have several, so that its key can be rotated."""


def _require_key(key: str) -> None:
    """Raise ValueError if the key is unusable, or SECRET_KEYS_ACCEPTED would parse it differently."""
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8 text") from None
    if length < MIN_KEY_BYTES:
        raise ValueError(f"must be at least {MIN_KEY_BYTES} bytes long")
    if "," in key or key != key.strip():
        raise ValueError("must not contain commas, or spaces at either end")
    if "ssh-rsa" in key or "-----BEGIN" in key:
        raise ValueError("must be random text for HS256, not a key of a key pair")


class Settings(ServiceSettings):
    service: ClassVar[str] = "user-service"

    port: int = Field(default=8001, ge=1, le=65535, description="The port to listen on.")
    secret_key: SecretStr | None = Field(
        default=None,
        description="Signs access tokens; at least 32 random bytes. If unset, the service generates a key in "
        "`DATA_DIR` in development and does not start in production.",
    )
    secret_keys_accepted: CommaSeparated = Field(
        default=[],
        description="Additional keys whose tokens are accepted, separated by commas: previous keys and the next key.",
        repr=False,
    )
    service_keys: ServiceKeys = Field(
        default={},
        description="Services that can call `/validate-token` and `/introspect`, as `name:key,name:key`. If unset, "
        "every client can.",
        repr=False,
    )
    access_token_expire_minutes: int = Field(
        default=15, ge=1, le=24 * 60, description="Lifetime of an access token in minutes."
    )
    clock_leeway_seconds: int = Field(
        default=5,
        ge=0,
        le=60,
        description="Seconds that the clock of a server that issues tokens may be ahead of one that validates them.",
    )
    refresh_token_expire_days: int = Field(
        default=30, ge=1, le=3650, description="Lifetime of a session in days, restarted by each refresh."
    )
    session_max_lifetime_days: int | None = Field(
        default=None,
        ge=1,
        le=3650,
        description="Days after its login at which a session expires, however often it is refreshed. If unset, a "
        "session that is refreshed in time never expires.",
    )
    max_sessions_per_user: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Active sessions of an account: a login that exceeds the number revokes the oldest. If unset, "
        "there is no limit.",
    )
    refresh_token_cookie: bool = Field(
        default=False,
        description="Send the refresh token as a cookie that scripts can't read, instead of in the response.",
    )
    registration: Literal["open", "closed"] = Field(
        default="open", description="With `closed`, only admins can create accounts, with `POST /users`."
    )
    reserved_usernames: CommaSeparated = Field(
        default=[
            *("abuse", "admin", "administrator", "help", "hostmaster", "info", "moderator", "no-reply", "noreply"),
            *("operator", "postmaster", "root", "security", "staff", "support", "system", "webmaster"),
        ],
        description="Usernames that can't be registered, in any case, separated by commas. Admins and operators can "
        "use them.",
    )
    password_min_length: int = Field(
        default=8, ge=1, le=128, description="Minimum length of a new password in characters."
    )
    reject_common_passwords: bool = Field(
        default=True, description="Whether common and easily guessed passwords are rejected as new passwords."
    )
    bcrypt_cost: int = Field(
        default=12,
        ge=4,
        le=MAX_COST,
        description="Cost of a password hash; each step doubles it. In production at least 12.",
    )
    password_queue_timeout: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Seconds that a login waits for a free hashing thread before it gets a 503.",
    )
    rate_limit_login: RateLimit = Field(
        default="10/minute",
        description="Failed password checks per account and address. "
        "Several limits: `10/minute; 50/hour`; no limit: `off`.",
    )
    rate_limit_login_address: RateLimit = Field(
        default="100/minute",
        description="Failed password checks per address (IPv6: per /64, 4 times as many per /56, 16 times per /48).",
    )
    rate_limit_login_account: RateLimit = Field(
        default="20/hour",
        description="Failed password checks per account, at all addresses, after which the audit log has a line and "
        "logins from addresses that the account hasn't used are slowed down, but not locked.",
    )
    rate_limit_register: RateLimit = Field(default="10/minute", description="Registrations per username and address.")
    rate_limit_register_address: RateLimit = Field(default="30/minute", description="Registrations per address.")
    rate_limit_refresh: RateLimit = Field(default="30/minute", description="Refreshes per session and address.")
    rate_limit_refresh_address: RateLimit = Field(default="600/minute", description="Refreshes per address.")
    rate_limit_storage_url: StorageUrl = Field(
        default="memory://",
        description="Where attempts are counted: `memory://` for each process separately, or Redis or Valkey for all "
        "of them: `redis://:password@host:6379/0`, `rediss://` with TLS.",
        repr=False,
    )

    @field_validator("reserved_usernames")
    @classmethod
    def _check_usernames(cls, names: list[str]) -> list[str]:
        for name in names:
            if not USERNAME.fullmatch(name):
                raise ValueError(f"{name} is not a username of {RULE}")
        return names

    @field_validator("secret_keys_accepted")
    @classmethod
    def _check_accepted_keys(cls, keys: list[str]) -> list[str]:
        for key in keys:
            _require_key(key)
        return keys

    @field_validator("secret_key")
    @classmethod
    def _check_secret_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            _require_key(key.get_secret_value())
        return key

    def contradictions(self) -> list[str]:
        reasons = super().contradictions()
        key_file = self.development_key_file
        if self.secret_key is None and key_file.is_file() and key_file.stat().st_size < MIN_KEY_BYTES:
            reasons.append(
                f"{key_file} has no key of at least {MIN_KEY_BYTES} bytes. Delete the file to generate a new key"
            )
        return reasons

    def unsafe(self) -> list[str]:
        reasons = super().unsafe()
        key = self.secret_key.get_secret_value() if self.secret_key else None
        signing_keys = [*([key] if key else []), *self.secret_keys_accepted]
        service_keys = list(self.service_keys.values())
        if key is None:
            reasons.append("SECRET_KEY must be set in production")
        if key in SAMPLE_KEYS:
            reasons.append("SECRET_KEY is the sample from the documentation. Generate your own key")
        if set(self.secret_keys_accepted) & set(SAMPLE_KEYS):
            reasons.append("SECRET_KEYS_ACCEPTED contains the sample from the documentation. Remove it")
        if SAMPLE_SERVICE_KEY in service_keys:
            reasons.append("SERVICE_KEYS contains the key from docker-compose.yml. Generate your own key")
        if set(signing_keys) & set(service_keys):
            reasons.append("SERVICE_KEYS has a key that signs tokens. A service that has it can make tokens")
        own = {
            "SECRET_KEY": [key] if key else [],
            "SECRET_KEYS_ACCEPTED": self.secret_keys_accepted,
            "SERVICE_KEYS": service_keys,
        }
        reasons += [
            f"{variable} has a key that is too easy to guess. Generate a random key"
            for variable, keys in own.items()
            if any(is_guessable_key(each) for each in keys if each not in (*SAMPLE_KEYS, SAMPLE_SERVICE_KEY))
        ]
        if self.bcrypt_cost < MIN_PRODUCTION_BCRYPT_COST:
            reasons.append(f"BCRYPT_COST must be at least {MIN_PRODUCTION_BCRYPT_COST} in production")
        if self.password_min_length < MIN_PRODUCTION_PASSWORD_LENGTH:
            reasons.append(f"PASSWORD_MIN_LENGTH must be at least {MIN_PRODUCTION_PASSWORD_LENGTH} in production")
        if self.workers > 1 and self.rate_limit_storage_url == rate_limits.IN_MEMORY and not self.limits_off:
            reasons.append("WORKERS is above 1, and each would count attempts separately. Set RATE_LIMIT_STORAGE_URL")
        return reasons

    def risky(self) -> list[str]:
        reasons = super().risky()
        if not self.service_keys:
            reasons.append("SERVICE_KEYS is unset. Anyone with a token can look up its account")
        off = [name.upper() for name, value in self if name.startswith("rate_limit_") and value == rate_limits.OFF]
        if off:
            reasons.append(
                f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} off. Attempts are not limited there"
            )
        if not self.reject_common_passwords:
            reasons.append("REJECT_COMMON_PASSWORDS is off. Users may choose passwords that are easily guessed")
        if self.access_token_expire_minutes > LONG_TOKEN_MINUTES:
            reasons.append("ACCESS_TOKEN_EXPIRE_MINUTES is over an hour. A stolen token is useful that long")
        return reasons

    @property
    def limits_off(self) -> bool:
        """Whether failed logins have no limit at all."""
        return not any(map(rate_limits.parse, (self.rate_limit_login, self.rate_limit_login_address)))

    @property
    def access_token_lifetime(self) -> timedelta:
        return timedelta(minutes=self.access_token_expire_minutes)

    @property
    def clock_leeway(self) -> timedelta:
        return timedelta(seconds=self.clock_leeway_seconds)

    @property
    def refresh_token_lifetime(self) -> timedelta:
        return timedelta(days=self.refresh_token_expire_days)

    @property
    def session_max_lifetime(self) -> timedelta | None:
        return None if self.session_max_lifetime_days is None else timedelta(days=self.session_max_lifetime_days)

    @property
    def development_key_file(self) -> Path:
        return self.data_dir / "secret-key"
