"""Access tokens: signed JWTs (RFC 9068). The only module that imports python-jose.

The algorithm is always HS256, whatever a token's header says. Every claim is required explicitly, because python-jose
accepts tokens with missing claims by default.
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
from jose.exceptions import JOSEError

from chassis.ids import LARGEST_ID

_ALGORITHM = "HS256"
_TYPE = "at+jwt"
ISSUER = "user-service"
AUDIENCE = "services"
# `verify` requires and checks `sid`, which python-jose has no option for, and the times: python-jose accepts a token
# during the second in which it expires.
_OPTIONS = {f"require_{claim}": True for claim in ("iss", "sub", "aud", "jti")}
_OPTIONS |= {f"verify_{claim}": False for claim in ("iat", "nbf", "exp")}
_UNSUPPORTED_PARAMETERS = {"crit", "b64"}
_COMPACT_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MALFORMED = "The token is malformed, or was not issued here."
_EXPIRED = "The token has expired."
_NOT_YET_VALID = "The token is not valid yet: the clock of the server that issued it is ahead of this one."
_POSITIVE_NUMBER = re.compile(r"[1-9][0-9]{0,18}")


class TokenRejected(Exception):
    """The token is invalid; the message gives the reason and is safe to send to clients."""


@dataclass(frozen=True)
class Claims:
    user_id: int
    session_id: int
    issued_at: datetime
    expires_at: datetime


class Tokens:
    """Issues access tokens with the first key, and verifies tokens signed with any of the keys."""

    def __init__(self, keys: Sequence[bytes], lifetime: timedelta, leeway: timedelta = timedelta()) -> None:
        """
        :param leeway: how far the clock of another server that issues tokens may be ahead of this one
        """
        self._leeway = leeway
        self._keys = {key_id(key): key for key in keys}
        self._signing = (key_id(keys[0]), keys[0])
        self.lifetime = lifetime

    def issue(self, user_id: int, session_id: int, now: datetime, lifetime: timedelta | None = None) -> str:
        """Issue a token for a session of an account, valid from `now`.

        :param lifetime: for a session that expires earlier than its tokens usually do
        """
        lifetime = self.lifetime if lifetime is None else lifetime
        issued_at = int(now.timestamp())
        claims = {
            "iss": ISSUER,
            "sub": str(user_id),
            "aud": AUDIENCE,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + int(lifetime.total_seconds()),
            "jti": uuid.uuid4().hex,
            "sid": session_id,
        }
        kid, key = self._signing
        token: str = jwt.encode(claims, key, _ALGORITHM, headers={"typ": _TYPE, "kid": kid})
        return token

    def verify(self, token: str, now: datetime) -> Claims:
        """Verify the signature, type, times and claims of a token and return its claims; raises TokenRejected."""
        if not _COMPACT_FORM.fullmatch(token) or not all(map(_is_canonical, token.split("."))):
            # python-jose's decoder would accept other encodings of the same token.
            raise TokenRejected(_MALFORMED)
        try:
            header = jwt.get_unverified_header(token)
            # Extensions that the service does not support must not be ignored (RFC 7515, section 4.1.11; RFC 7797).
            if header.get("typ") != _TYPE or not _UNSUPPORTED_PARAMETERS.isdisjoint(header):
                raise TokenRejected(_MALFORMED)
            claims = jwt.decode(
                token,
                self._keys[header["kid"]],
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options=_OPTIONS,
            )
            issued_at = datetime.fromtimestamp(_require_int(claims["iat"]), UTC)
            valid_from = max(claims["iat"], _require_int(claims["nbf"]))
            expires_at = datetime.fromtimestamp(_require_int(claims["exp"]), UTC)
            user_id = _require_row_id(int(claims["sub"]) if _POSITIVE_NUMBER.fullmatch(claims["sub"]) else 0)
            session_id = _require_row_id(_require_int(claims["sid"]))
        # On malformed input, errors of the underlying decoders can escape python-jose.
        except (JOSEError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            raise TokenRejected(_MALFORMED) from None
        if expires_at <= now:
            raise TokenRejected(_EXPIRED)
        if valid_from > (now + self._leeway).timestamp():
            raise TokenRejected(_NOT_YET_VALID)
        return Claims(user_id, session_id, issued_at, expires_at)


def _is_canonical(segment: str) -> bool:
    """Whether the segment is the canonical base64url encoding of its bytes: unused bits of the last character are 0."""
    try:
        decoded = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_")
    except binascii.Error:
        return False
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == segment


def _require_int(claim: object) -> int:
    if type(claim) is not int:
        raise TokenRejected(_MALFORMED)
    return claim


def _require_row_id(number: int) -> int:
    if not 1 <= number <= LARGEST_ID:
        raise TokenRejected(_MALFORMED)
    return number


def key_id(key: bytes) -> str:
    """The `kid` of a key: derived from the key, without revealing it."""
    return hmac.new(key, b"key id", hashlib.sha256).hexdigest()[:16]
