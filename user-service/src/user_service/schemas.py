"""What crosses the wire of the user service."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, StringConstraints
from pydantic.config import JsonDict

from chassis.text import Line
from user_service.security.refresh_tokens import LONGEST as LONGEST_REFRESH_TOKEN

LONGEST_PASSWORD = 256  # characters, so that nobody makes the service hash a book

Username = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^[A-Za-z0-9._-]{3,50}$"),
    Field(description="3 to 50 letters, digits, dots, underscores and hyphens; unique without regard to case."),
]
Password = Annotated[
    Line,
    Field(
        min_length=1,
        max_length=LONGEST_PASSWORD,
        description="At least `PASSWORD_MIN_LENGTH` (8) and at most 256 characters, any of Unicode's but controls.",
        # The shortest by default; the setting itself is the service layer's affair.
        json_schema_extra={"format": "password", "minLength": 8},
    ),
]
CurrentPassword = Annotated[
    Line, Field(min_length=1, max_length=LONGEST_PASSWORD, json_schema_extra={"format": "password"})
]

Role = Literal["user", "admin"]


def _has_user(roles: list[Role]) -> list[Role]:
    if "user" not in roles or len(set(roles)) != len(roles):
        raise ValueError('Roles are ["user"] or ["user", "admin"]: every account is a user')
    return roles


Roles = Annotated[list[Role], AfterValidator(_has_user), Field(max_length=2)]

CREDENTIALS_EXAMPLE: JsonDict = {"username": "ada", "password": "correct horse battery staple"}
VALID_TOKEN_EXAMPLE: JsonDict = {
    "valid": True,
    "user_id": 1,
    "username": "ada",
    "roles": ["user"],
    "session_id": 1,
    "expires_at": "2026-01-31T12:15:00Z",
    "message": "The token is valid.",
}
REFUSED_TOKEN_EXAMPLE: JsonDict = {"valid": False, "message": "The token has expired."}


class Registration(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [CREDENTIALS_EXAMPLE]},
    )

    username: Username
    password: Password


class Credentials(BaseModel):
    """A name and its password; the other fields of OAuth2's password grant are accepted and ignored."""

    model_config = ConfigDict(extra="forbid")

    # Swagger UI fills in a form from the examples of its fields, and makes something up where there is none.
    username: Annotated[Line, Field(min_length=1, max_length=255, examples=[CREDENTIALS_EXAMPLE["username"]])]
    password: Annotated[
        Line,
        Field(
            min_length=1,
            max_length=LONGEST_PASSWORD,
            examples=[CREDENTIALS_EXAMPLE["password"]],
            json_schema_extra={"format": "password"},
        ),
    ]
    grant_type: StrictStr | None = Field(default=None, examples=["password"])
    scope: StrictStr | None = Field(default=None, examples=[""])
    client_id: StrictStr | None = Field(default=None, examples=[""])
    client_secret: StrictStr | None = Field(default=None, examples=[""])


class UserRead(BaseModel):
    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": 1,
                    "username": "ada",
                    "roles": ["user"],
                    "is_active": True,
                    "created_at": "2026-01-31T12:00:00.000000Z",
                    "updated_at": "2026-01-31T12:00:00.000000Z",
                }
            ]
        },
    )

    id: int
    username: str
    roles: list[str]
    is_active: bool
    created_at: datetime
    updated_at: datetime


def _unset() -> Any:
    """The default of a field that may be left out, but not be null; `model_fields_set` tells whether it was sent."""


class UserPatch(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"is_active": False}]})

    is_active: bool = Field(default_factory=_unset, strict=True)
    roles: Roles = Field(default_factory=_unset)


class GrantRead(BaseModel):
    """The answer to a login and to a refresh, as OAuth2 has it (RFC 6749, section 5.1)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "access_token": "eyJhbGciOi...",
                    "token_type": "bearer",
                    "expires_in": 900,
                    "refresh_token": "AAAAAAAAAAGx...",
                }
            ]
        }
    )

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind of token, not one
    expires_in: int = Field(description="Seconds that the access token is valid.")
    refresh_token: str = Field(description="Opaque; to be used once, at `POST /refresh`, which answers the next one.")


class RefreshRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"refresh_token": "AAAAAAAAAAGx..."}]})

    refresh_token: StrictStr = Field(max_length=LONGEST_REFRESH_TOKEN)


class SessionRead(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 1,
                    "created_at": "2026-01-31T12:00:00.000000Z",
                    "last_used_at": "2026-01-31T12:00:00.000000Z",
                    "expires_at": "2026-03-02T12:00:00.000000Z",
                    "user_agent": "curl/8.0",
                    "ip": "127.0.0.1",
                    "current": True,
                }
            ]
        }
    )

    id: int
    created_at: datetime
    last_used_at: datetime = Field(description="Moves at each refresh.")
    expires_at: datetime = Field(description="Moves at each refresh too.")
    user_agent: str | None
    ip: str | None
    current: bool = Field(description="Whether it is the session of the token that asks.")


class PasswordProof(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"current_password": CREDENTIALS_EXAMPLE["password"]}]}
    )

    current_password: CurrentPassword


class PasswordChange(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"current_password": CREDENTIALS_EXAMPLE["password"], "new_password": "a new horse, a new battery"}
            ]
        },
    )

    current_password: CurrentPassword
    new_password: Password


class TokenToValidate(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"token": "eyJhbGciOi..."}]})

    token: StrictStr = Field(description="Any text; what is not a token of ours is answered with `valid: false`.")


class ValidToken(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [VALID_TOKEN_EXAMPLE]})

    valid: Literal[True] = True
    user_id: int
    username: str
    roles: list[str]
    session_id: int
    expires_at: datetime
    message: str = "The token is valid."


class RefusedToken(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [REFUSED_TOKEN_EXAMPLE]})

    valid: Literal[False] = False
    message: str
