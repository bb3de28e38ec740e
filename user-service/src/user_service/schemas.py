"""Request and response models of the user service."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr
from pydantic.config import JsonDict

from chassis.text import MAX_TOKEN_LENGTH, Line
from chassis.times import Time
from user_service.roles import roles_of
from user_service.security.passwords import normalize
from user_service.security.refresh_tokens import MAX_LENGTH as MAX_REFRESH_TOKEN_LENGTH
from user_service.usernames import RULE, USERNAME

if TYPE_CHECKING:
    from user_service.models import User

MAX_PASSWORD_LENGTH = 256  # limits the cost of hashing
_MAX_EXPANSION = 4
"""The largest number of code points that normalization makes of one, or one of (Unicode, UAX 15)."""


def _check_username(username: str) -> str:
    if not USERNAME.fullmatch(username):
        raise ValueError(f"Usernames have {RULE}")
    return username


Username = Annotated[
    StrictStr,
    AfterValidator(_check_username),
    Field(
        description=f"{RULE}. Case-insensitive.",
        json_schema_extra={"pattern": f"^{USERNAME.pattern}$"},
    ),
]


def _normalize_password(password: str) -> str:
    # A longer text can't become short enough, and sorting its combining characters could take minutes.
    return normalize(password) if len(password) <= MAX_PASSWORD_LENGTH * _MAX_EXPANSION else password


_PasswordText = Annotated[Line, AfterValidator(_normalize_password)]
"""A normalized password; its length is checked afterwards."""

Password = Annotated[
    _PasswordText,
    Field(
        min_length=1,
        max_length=MAX_PASSWORD_LENGTH,
        description="At least `PASSWORD_MIN_LENGTH` (8) and at most 256 Unicode characters after normalization to NFC; "
        "no control characters.",
        # The default minimum; the service layer enforces the configured one.
        json_schema_extra={"format": "password", "minLength": 8},
    ),
]
CurrentPassword = Annotated[
    _PasswordText, Field(min_length=1, max_length=MAX_PASSWORD_LENGTH, json_schema_extra={"format": "password"})
]

Role = Literal["user", "admin"]


def _check_roles(roles: list[Role]) -> list[Role]:
    if "user" not in roles or len(set(roles)) != len(roles):
        raise ValueError('Roles must be ["user"] or ["user", "admin"]; every account is a user')
    return roles


Roles = Annotated[
    list[Role],
    AfterValidator(_check_roles),
    Field(
        max_length=2,
        description='`["user"]`, or `["user", "admin"]` for an admin.',
        json_schema_extra={"minItems": 1, "uniqueItems": True, "contains": {"const": "user"}},
    ),
]

CREDENTIALS_EXAMPLE: JsonDict = {"username": "ada", "password": "correct horse battery staple"}
REFRESH_EXAMPLE: JsonDict = {"refresh_token": "AAAAAAAAAAGx..."}
REVOCATION_EXAMPLE: JsonDict = {"token": "AAAAAAAAAAGx...", "token_type_hint": "refresh_token"}
VALID_TOKEN_EXAMPLE: JsonDict = {
    "valid": True,
    "user_id": 1,
    "username": "ada",
    "roles": ["user"],
    "session_id": 1,
    "expires_at": "2026-01-31T12:15:00Z",
    "message": "The token is valid.",
}
INTROSPECTION_EXAMPLE: JsonDict = {"token": "eyJhbGciOi...", "token_type_hint": "access_token"}
ACTIVE_TOKEN_EXAMPLE: JsonDict = {
    "active": True,
    "sub": "1",
    "username": "ada",
    "scope": "user",
    "token_type": "Bearer",
    "iat": 1769860800,
    "exp": 1769861700,
    "iss": "user-service",
    "aud": "services",
    "sid": 1,
}
INACTIVE_TOKEN_EXAMPLE: JsonDict = {"active": False}
REFUSED_TOKEN_EXAMPLE: JsonDict = {"valid": False, "message": "The token has expired."}


class Registration(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [CREDENTIALS_EXAMPLE]},
    )

    username: Username
    password: Password


class Credentials(BaseModel):
    """Username and password: the OAuth2 password grant, whose other fields are accepted and ignored."""

    model_config = ConfigDict(extra="forbid")

    # Swagger UI prefills forms from field examples, and invents values for fields without one.
    username: Annotated[
        Line,
        Field(min_length=1, max_length=255, examples=[CREDENTIALS_EXAMPLE["username"]]),
        # Usernames contain no spaces, but the keyboards of phones add one.
        AfterValidator(str.strip),
    ]
    password: Annotated[
        _PasswordText,
        Field(
            min_length=1,
            max_length=MAX_PASSWORD_LENGTH,
            examples=[CREDENTIALS_EXAMPLE["password"]],
            json_schema_extra={"format": "password"},
        ),
    ]
    grant_type: Literal["password"] | None = Field(default=None, examples=["password"])
    scope: StrictStr | None = Field(default=None, examples=[""])
    client_id: StrictStr | None = Field(default=None, examples=[""])
    client_secret: StrictStr | None = Field(default=None, examples=[""])


_USER_EXAMPLE: JsonDict = {
    "id": 1,
    "username": "ada",
    "roles": ["user"],
    "is_active": True,
    "created_at": "2026-01-31T12:00:00.000000Z",
    "updated_at": "2026-01-31T12:00:00.000000Z",
}


class UserRead(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [_USER_EXAMPLE]})

    id: int
    username: str
    roles: list[str]
    is_active: bool
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, user: "User") -> Self:
        columns = {name: getattr(user, name) for name in cls.model_fields if name != "roles"}
        return cls(**columns, roles=roles_of(user))


def _unset() -> Any:
    """The default of a field that is optional but not nullable; `model_fields_set` tells whether it was sent."""


class UserPatch(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"is_active": False}]})

    username: Username = Field(default_factory=_unset)
    is_active: bool = Field(default_factory=_unset, strict=True)
    roles: Roles = Field(default_factory=_unset)


class TokenResponse(BaseModel):
    """Token response of OAuth2 (RFC 6749, section 5.1), for a login or a refresh."""

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
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a token type, not a token
    expires_in: int = Field(description="Lifetime of the access token in seconds.")
    refresh_token: str = Field(description="Opaque and valid once: `POST /refresh` replaces it.")


class CookieTokenResponse(BaseModel):
    """Token response if the refresh token is a cookie."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a token type, not a token
    expires_in: int = Field(description="Lifetime of the access token in seconds.")


class RefreshRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [REFRESH_EXAMPLE]})

    refresh_token: StrictStr = Field(max_length=MAX_REFRESH_TOKEN_LENGTH)
    grant_type: Literal["refresh_token"] | None = None


class LogOut(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]})

    refresh_token: StrictStr | None = Field(
        default=None,
        max_length=MAX_REFRESH_TOKEN_LENGTH,
        description="Revokes the session of this token. Without it, the session of the access token is revoked.",
    )


class Revocation(BaseModel):
    """A revocation request of OAuth2 (RFC 7009, section 2.1)."""

    token: StrictStr = Field(
        min_length=1,
        max_length=MAX_TOKEN_LENGTH,
        description="A refresh token, or an access token.",
        examples=[REVOCATION_EXAMPLE["token"]],
    )
    token_type_hint: StrictStr | None = Field(
        default=None, description="Ignored.", examples=[REVOCATION_EXAMPLE["token_type_hint"]]
    )


_SESSION_EXAMPLE: JsonDict = {
    "id": 1,
    "created_at": "2026-01-31T12:00:00.000000Z",
    "last_used_at": "2026-01-31T12:00:00.000000Z",
    "expires_at": "2026-03-02T12:00:00.000000Z",
    "user_agent": "curl/8.0",
    "ip": "127.0.0.1",
    "current": True,
}


class SessionRead(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [_SESSION_EXAMPLE]})

    id: int
    created_at: Time
    last_used_at: Time = Field(description="Updated by each refresh.")
    expires_at: Time = Field(description="Extended by each refresh.")
    user_agent: str | None
    ip: str | None
    current: bool = Field(description="Whether the access token of this request belongs to the session.")


_SESSION_EXPORT_EXAMPLE: JsonDict = {
    **_SESSION_EXAMPLE,
    "refresh_user_agent": "curl/8.0",
    "refresh_ip": "192.0.2.1",
}
_NETWORK_EXAMPLE: JsonDict = {"network": "192.0.2.1", "last_login_at": "2026-01-31T12:00:00.000000Z"}


class SessionExport(SessionRead):
    model_config = ConfigDict(json_schema_extra={"examples": [_SESSION_EXPORT_EXAMPLE]})

    refresh_user_agent: str | None = Field(description="The user agent of the last refresh; null if there was none.")
    refresh_ip: str | None = Field(description="The address of the last refresh; null if there was none.")


class NetworkExport(BaseModel):
    """A network from which the account has logged in. Logins from there are not slowed down while others guess."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [_NETWORK_EXAMPLE]})

    network: str
    last_login_at: Time


class AccountExport(BaseModel):
    """What the service stores about an account, except hashes of its password and tokens."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "exported_at": "2026-01-31T12:00:00.000000Z",
                    "account": _USER_EXAMPLE,
                    "sessions": [_SESSION_EXPORT_EXAMPLE],
                    "networks": [_NETWORK_EXAMPLE],
                }
            ]
        }
    )

    exported_at: Time
    account: UserRead
    sessions: list[SessionExport] = Field(description="The active sessions, newest first, at most 10,000.")
    networks: list[NetworkExport] = Field(description="The networks of logins, the last one first.")


class PasswordProof(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"current_password": CREDENTIALS_EXAMPLE["password"]}]}
    )

    current_password: CurrentPassword


class NewPassword(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"new_password": "a new horse, a new battery"}]}
    )

    new_password: Password


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

    token: StrictStr = Field(
        description="Any string; one that is not an access token of this service gets `valid: false`."
    )


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


class Introspection(BaseModel):
    """An introspection request of OAuth2 (RFC 7662, section 2.1)."""

    token: StrictStr = Field(min_length=1, description="An access token.", examples=[INTROSPECTION_EXAMPLE["token"]])
    token_type_hint: StrictStr | None = Field(
        default=None, description="Ignored.", examples=[INTROSPECTION_EXAMPLE["token_type_hint"]]
    )


class ActiveToken(BaseModel):
    """The claims of an access token, as in RFC 7662, section 2.2."""

    model_config = ConfigDict(json_schema_extra={"examples": [ACTIVE_TOKEN_EXAMPLE]})

    active: Literal[True] = True
    sub: str = Field(description="The id of the account.")
    username: str
    scope: str = Field(description="The roles of the account, separated by spaces.")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a token type, not a token
    iat: int = Field(description="When the token was issued, in seconds since 1970.")
    exp: int = Field(description="When it expires, in seconds since 1970. It may be revoked before.")
    iss: str
    aud: str
    sid: int = Field(description="The id of the session.")


class InactiveToken(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [INACTIVE_TOKEN_EXAMPLE]})

    active: Literal[False] = False
