"""Access tokens: signed JWTs (RFC 9068), through python-jose: the only module that imports it.

HS256 and nothing else, whatever a token's header says; every claim is required, for python-jose by itself accepts
a token that lacks any of them.
"""

import base64
import binascii
import hashlib
import hmac
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jose import jwt
from jose.exceptions import ExpiredSignatureError, JOSEError

from chassis.ids import LARGEST_ID

_ALGORITHM = "HS256"
_TYPE = "at+jwt"
_ISSUER = "user-service"
_AUDIENCE = "services"
_CLAIMS = ("iss", "sub", "aud", "iat", "nbf", "exp", "jti")  # and `sid`, which python-jose does not know
_REQUIRE_ALL = {f"require_{claim}": True for claim in _CLAIMS}
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_NOT_OURS = "The token is malformed, or was not issued here."
_EXPIRED = "The token has expired."
_ID = re.compile(r"[1-9][0-9]{0,18}")


class TokenRefused(Exception):
    """Why a token is not accepted, in one sentence that may be told to whoever asks."""


@dataclass(frozen=True)
class Claims:
    user_id: int
    session_id: int
    expires_at: datetime


class Tokens:
    """Issues access tokens, signed with the first key, and reads those of all keys."""

    def __init__(self, keys: Sequence[bytes], lifetime: timedelta) -> None:
        self._keys = {key_id(key): key for key in keys}
        self._signing = (key_id(keys[0]), keys[0])
        self.lifetime = lifetime

    def issue(self, user_id: int, session_id: int, now: datetime) -> str:
        """A token for this session of this account, valid from now on."""
        issued_at = int(now.timestamp())
        claims = {
            "iss": _ISSUER,
            "sub": str(user_id),
            "aud": _AUDIENCE,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + int(self.lifetime.total_seconds()),
            "jti": uuid.uuid4().hex,
            "sid": session_id,
        }
        name, key = self._signing
        token: str = jwt.encode(claims, key, _ALGORITHM, headers={"typ": _TYPE, "kid": name})
        return token

    def read(self, token: str, now: datetime) -> Claims:
        """What a token says, once its signature, type and times are found to be right. Raises TokenRefused."""
        if not _FORM.fullmatch(token) or not all(map(_is_canonical, token.split("."))):
            # The decoder behind it would take other spellings of the same token.
            raise TokenRefused(_NOT_OURS)
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != _TYPE:
                raise TokenRefused(_NOT_OURS)
            claims = jwt.decode(
                token,
                self._keys[header["kid"]],
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                issuer=_ISSUER,
                options=_REQUIRE_ALL,
            )
            expires_at = datetime.fromtimestamp(_whole(claims["exp"]), UTC)
            user_id = _row_id(int(claims["sub"]) if _ID.fullmatch(claims["sub"]) else 0)
            session_id = _row_id(_whole(claims["sid"]))
        except ExpiredSignatureError:
            raise TokenRefused(_EXPIRED) from None
        # Beyond its own errors python-jose lets through what odd input makes the decoders under it raise.
        except (JOSEError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            raise TokenRefused(_NOT_OURS) from None
        # In the second that a token expires in, python-jose still takes it.
        if expires_at <= now:
            raise TokenRefused(_EXPIRED)
        return Claims(user_id, session_id, expires_at)


def _is_canonical(segment: str) -> bool:
    """Whether no other text stands for the same bytes: the bits of the last character that mean nothing are 0."""
    try:
        decoded = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_")
    except binascii.Error:
        return False
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == segment


def _whole(claim: object) -> int:
    if type(claim) is not int:
        raise TokenRefused(_NOT_OURS)
    return claim


def _row_id(number: int) -> int:
    if not 1 <= number <= LARGEST_ID:
        raise TokenRefused(_NOT_OURS)
    return number


def key_id(key: bytes) -> str:
    """A name for the key that is derived from it and does not reveal it."""
    return hmac.new(key, b"key id", hashlib.sha256).hexdigest()[:16]
