"""The settings that all services share.

They are read from environment variables, then from `.env` in the current folder, then from the files in
`/run/secrets`.

An empty value counts as unset, and lists are separated by commas. A service starts only if all settings are valid, and
in production safe: see `chassis.process.configuration`.
"""

import ipaddress
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import URL, make_url

from chassis.database.engines import DEFAULT_TIMEOUT
from chassis.database.url import UnusableDatabaseUrl, as_text, hosts, normalise
from chassis.logs import LogFormat


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaSeparated = Annotated[list[str], NoDecode, BeforeValidator(_split)]
"""A list of strings, separated by commas."""

PRODUCTION_DEFAULTS = {"drain_seconds": 5.0, "watchdog_seconds": 30.0}
"""Instead of those of the fields: a developer does not wait for a load balancer, and may stop in a debugger."""

SAMPLE_DATABASE_PASSWORD = "development-only"  # noqa: S105 - it is public, in docker-compose.yml
SAMPLE_SERVICE_KEY = "development-only-key-of-the-product-service"  # Likewise.

# The other values of libpq permit a connection without TLS.
_ENCRYPTED = ("require", "verify-ca", "verify-full")

# A development server takes the next free port when its usual one is in use, so any port is allowed.
_LOOPBACK_ORIGIN = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")


class UnusableSettings(ValueError):
    """What keeps a service from starting, and what it would only warn of: a sentence each."""

    def __init__(self, reasons: Sequence[str], warnings: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
        self.warnings = warnings


class ServiceSettings(BaseSettings):
    """The base of a service's settings. A service sets the default of `PORT` and adds its own settings."""

    service: ClassVar[str]
    """The name of the service, in logs, in health checks and in the name of its SQLite file."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        validate_default=True,
        frozen=True,
    )

    environment: Literal["development", "production"] = Field(
        default="development", description="`production` rejects insecure development defaults."
    )
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(ge=1, le=65535, description="The port to listen on.")
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="The port of the metrics for Prometheus, which must not be public. If unset, none are recorded.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="The address to serve the metrics on.")
    workers: int = Field(default=1, ge=1, le=64, description="Worker processes. Migrations run once, before them.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The lowest level that is logged. The audit log ignores it."
    )
    log_format: LogFormat = Field(default="console", description="`console` for people, `json` for log processing.")
    otel_exporter_otlp_endpoint: str = Field(
        default="",
        description="URL of an OpenTelemetry collector, such as `http://localhost:4318`, that gets the spans of "
        "requests by OTLP over HTTP. If unset, none are recorded.",
    )
    slow_request_seconds: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="A request that takes this many seconds or more is logged as slow, with its route; 0 to log none.",
    )
    slow_statement_seconds: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="A database statement that takes this many seconds or more is logged as slow, without its values; "
        "0 to log none.",
    )
    data_dir: Path = Field(
        default=Path("data"),
        description="The folder of the SQLite database and of the generated development secret.",
    )
    database_url: str = Field(
        default="",
        description="`sqlite:///file.db` or `postgresql://user:password@host/name`. Of several hosts, `host1,host2`, "
        "the service uses the primary. Default: SQLite in `DATA_DIR`, but in production it must be set.",
        repr=False,
    )
    database_password: SecretStr | None = Field(
        default=None,
        description="The password for a PostgreSQL `DATABASE_URL` that has none, as it is: no percent-encoding.",
    )
    database_pool_size: int = Field(
        default=10,
        ge=2,
        le=200,
        description="The maximum number of database connections of a worker process, for reads and writes together.",
    )
    database_pool_timeout: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Seconds to wait for a database connection, and on SQLite also for the lock of the file.",
    )
    database_timeout: float = Field(
        default=DEFAULT_TIMEOUT,
        gt=0,
        le=300,
        description="Seconds that a read or write may take in the database; after that it is a 503.",
    )
    migrate_on_start: bool = Field(
        default=True, description="Migrate the database before the service accepts requests."
    )
    allowed_origins: CommaSeparated = Field(
        default=[],
        description="Origins whose scripts may call the service (CORS). "
        "In development, every port on localhost, 127.0.0.1 and [::1] is allowed as well.",
    )
    trusted_proxies: CommaSeparated = Field(
        default=[],
        description="Addresses or networks of reverse proxies, separated by commas. `X-Forwarded-For` is trusted only "
        "from them.",
    )
    hsts_seconds: int = Field(
        default=0,
        ge=0,
        le=63_072_000,
        description="For how long browsers must use HTTPS for the host (`Strict-Transport-Security`); 0 for no header.",
    )
    documentation: Literal["on", "off"] = Field(
        default="on",
        description="With `off`, `/docs`, `/redoc` and `/openapi.json` are a 404, and the start page does not link "
        "them.",
    )
    max_connections: int = Field(
        default=1000,
        ge=10,
        le=10_000,
        description="The maximum number of connections of a worker process, and at most half of its file handles. "
        "Beyond that, the one that has waited longest for its client is closed.",
    )
    max_concurrent_requests: int = Field(
        default=200,
        ge=1,
        le=10_000,
        description="The maximum number of requests to one operation that a worker process handles at the same time; "
        "further ones get a 503.",
    )
    max_body_bytes: int = Field(
        default=16_384,
        ge=1024,
        description="The maximum size of a request body; larger ones get a 413.",
    )
    header_timeout: float = Field(
        default=10.0,
        gt=0,
        le=600,
        description="Seconds that a client has for the headers of a request, from the connection or from their first "
        "byte; after that the connection is closed.",
    )
    body_timeout: float = Field(
        default=30.0,
        gt=0,
        le=600,
        description="Seconds that a request body may pause, or be behind 4 KiB per second; after that it is a 408.",
    )
    drain_seconds: float = Field(
        default=0.0,
        ge=0,
        le=300,
        description="Seconds between SIGTERM, when `/health/ready` becomes 503, and the end of accepting requests. "
        "In production, the default is 5.",
    )
    watchdog_seconds: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="Seconds that the event loop may stand still before the process ends, to be started again; 0 for "
        "any time. In production, the default is 30.",
    )

    @model_validator(mode="before")
    @classmethod
    def _ignore_empty(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`env_ignore_empty` is not for secrets."""
        return {name: value for name, value in values.items() if value != ""}

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            scheme, separator, rest = origin.partition("://")
            if not separator or scheme not in ("http", "https") or not rest or "/" in rest:
                raise ValueError("each must be like https://shop.example, without a path or trailing slash")
        return origins

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _is_collector(cls, url: str) -> str:
        if not url:
            return url
        try:
            parts = urlsplit(url)
            is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable or set("?# ") & set(url):
            raise ValueError("must be like http://localhost:4318")
        try:
            metadata.version("opentelemetry-exporter-otlp-proto-http")
        except metadata.PackageNotFoundError:
            raise ValueError(
                "needs packages that are not installed: install twinlatch-chassis[tracing], or unset it"
            ) from None
        return url.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: list[str]) -> list[str]:
        for proxy in proxies:
            try:
                network = ipaddress.ip_network(proxy)
            except ValueError:
                raise ValueError("each must be like 10.0.0.5 or 10.0.0.0/8") from None
            if network.prefixlen == 0:
                raise ValueError(f"{proxy} is every address, so every client could choose its own")
        return proxies

    @field_validator("database_url")
    @classmethod
    def _is_usable(cls, url: str) -> str:
        try:
            return normalise(url) if url else url
        except UnusableDatabaseUrl as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _complete_the_database_url(self) -> Self:
        # Let SQLAlchemy build it: the name of the folder may need quoting, and the password encoding.
        if self.database_url:
            url = self.with_password(self.database_url)
        else:
            url = URL.create("sqlite", database=f"{(self.data_dir / self.service).as_posix()}.db")
        # A frozen model can only be changed through __dict__.
        self.__dict__["database_url"] = as_text(url)
        return self

    @model_validator(mode="after")
    def _use_defaults_of_production(self) -> Self:
        if self.environment == "production":
            unset = PRODUCTION_DEFAULTS.keys() - self.model_fields_set
            self.__dict__.update({name: PRODUCTION_DEFAULTS[name] for name in unset})
        return self

    @model_validator(mode="after")
    def _require_usable(self) -> Self:
        production = self.environment == "production"
        if reasons := self.contradictions() + (self.unsafe() if production else []):
            raise UnusableSettings(reasons, self.risky() if production else [])
        return self

    def with_password(self, url: str) -> URL:
        """The address of a database, with `DATABASE_PASSWORD` if it has a user and no password."""
        parsed = make_url(url)
        if self.database_password is not None and parsed.username and not parsed.password:
            return parsed.set(password=self.database_password.get_secret_value())
        return parsed

    def contradictions(self) -> list[str]:
        """What keeps the service from starting in any environment, although each setting by itself is valid.

        A sentence each. A service adds its own.
        """
        reasons = []
        if self.metrics_port == self.port:
            reasons.append("METRICS_PORT is the same as PORT. The metrics are not public: choose another port")
        password = self.database_password
        if password is not None and make_url(self.database_url).password != password.get_secret_value():
            reasons.append(
                "DATABASE_PASSWORD needs a DATABASE_URL with a user and no password, like postgresql://user@host/name"
            )
        return reasons

    def unsafe(self) -> list[str]:
        """What keeps the service from starting in production, a sentence each. A service adds its own."""
        reasons = []
        if "database_url" not in self.model_fields_set:
            # In a container without a volume, the default would be lost with the container.
            file = f"sqlite:////data/{self.service}.db"
            reasons.append(f"DATABASE_URL must be set in production. For SQLite it names the file, such as {file}")
        if make_url(self.database_url).password == SAMPLE_DATABASE_PASSWORD:
            reasons.append("the database password is the sample from docker-compose.yml; choose your own")
        if any(origin.startswith("http:") for origin in self.allowed_origins):
            reasons.append("ALLOWED_ORIGINS has an origin without TLS. Anyone on the way to it can change its scripts")
        return reasons

    def risky(self) -> list[str]:
        """What the service logs as a warning when it starts in production, a sentence each. A service adds its own."""
        if "database_url" not in self.model_fields_set:
            return []  # In production, that is unsafe already.
        url = make_url(self.database_url)
        if url.get_backend_name() == "sqlite":
            return ["DATABASE_URL is SQLite. Replicas on other machines can't share it"]
        return unencrypted("DATABASE_URL", url)

    def allows_origin(self, origin: str) -> bool:
        """Whether scripts of this origin may call the service."""
        if self.environment == "development" and _LOOPBACK_ORIGIN.fullmatch(origin):
            return True
        return origin in self.allowed_origins


def is_loopback(host: str) -> bool:
    """Whether a host name or address is that of this machine, without a look-up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unencrypted(setting: str, url: URL) -> list[str]:
    """The warning of a PostgreSQL on another host without TLS."""
    addresses = [*hosts(url), *url.normalized_query.get("hostaddr", ())]
    is_local = all(host.startswith("/") or is_loopback(host) for host in addresses)
    if is_local or url.query.get("sslmode") in _ENCRYPTED:
        return []
    return [f"{setting} has no sslmode that demands TLS. The connection to the database may be unencrypted"]
