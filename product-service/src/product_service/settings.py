"""The settings of the product service."""

from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator
from sqlalchemy import make_url

from auth_client.settings import AuthClientSettings
from chassis.database.url import UnusableDatabaseUrl, as_text, normalise
from chassis.rate_limits import OFF, RateLimit
from chassis.settings import unencrypted
from product_service.domain.fields import LARGEST_DESCRIPTION_LENGTH, MAX_DESCRIPTION_LENGTH
from product_service.domain.ownership import WriteAccess


class Settings(AuthClientSettings):
    service: ClassVar[str] = "product-service"

    port: int = Field(default=8002, ge=1, le=65535, description="The port to listen on.")
    database_read_url: str = Field(
        default="",
        description="A replica of the PostgreSQL in `DATABASE_URL`, for reads of products without a token. "
        "`DATABASE_PASSWORD` is for both.",
        repr=False,
    )
    # Enough for a description of the default length if a client escapes each character, as two \uXXXX at most.
    max_body_bytes: int = Field(
        default=131_072,
        ge=1024,
        description="The maximum size of a request body that is not a file; larger ones get a 413.",
    )
    max_import_bytes: int = Field(
        default=104_857_600, ge=1024, description="Maximum size of an imported file, in bytes."
    )
    max_import_lines: int = Field(
        default=2_000_000,
        ge=1,
        le=100_000_000,
        description="Maximum number of lines in an imported file; the import stops at a longer one.",
    )
    max_import_blank_lines: int = Field(
        default=100_000,
        ge=0,
        le=100_000_000,
        description="Maximum number of blank lines in an imported file; the import stops at the next one.",
    )
    max_import_refused_lines: int = Field(
        default=10_000,
        ge=0,
        le=100_000_000,
        description="Maximum number of lines that an import refuses; the import stops when there are more.",
    )
    max_products_per_account: int = Field(
        default=10_000,
        ge=1,
        le=2**31 - 1,
        description="Maximum number of products of an account. Admins, and imports on the command line, have no limit.",
    )
    rate_limit_writes: RateLimit = Field(
        default="6000/minute",
        description="Requests of an account that write, in each process. An import is one. Admins have no limit; "
        "`off` for none at all.",
    )
    product_write_access: WriteAccess = Field(
        default="owner",
        description="Who can change a product: its `owner`, or any `authenticated` caller. Admins always can.",
    )
    max_description_length: int = Field(
        default=MAX_DESCRIPTION_LENGTH,
        ge=1,
        le=LARGEST_DESCRIPTION_LENGTH,
        description="Maximum length of a product's description, in characters. Longer ones that exist remain.",
    )

    @field_validator("database_read_url")
    @classmethod
    def _is_replica(cls, url: str) -> str:
        try:
            return normalise(url, replica=True) if url else url
        except UnusableDatabaseUrl as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _complete_the_database_read_url(self) -> Self:
        if self.database_read_url:
            self.__dict__["database_read_url"] = as_text(self.with_password(self.database_read_url))
        return self

    def contradictions(self) -> list[str]:
        reasons = super().contradictions()
        if self.database_read_url and make_url(self.database_url).get_backend_name() == "sqlite":
            reasons.append("DATABASE_READ_URL needs a DATABASE_URL of PostgreSQL, whose replica it is")
        return reasons

    def risky(self) -> list[str]:
        risks = super().risky()
        if self.database_read_url:
            risks += unencrypted("DATABASE_READ_URL", make_url(self.database_read_url))
        if self.rate_limit_writes == OFF:
            risks.append("RATE_LIMIT_WRITES is off. An account can make the service busy for all others")
        return risks
