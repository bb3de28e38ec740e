"""Refresh tokens: opaque to clients, 256 random bits, of which only a hash is stored.

A token is replaced each time it is used. Its successor is derived from it, with a key that only this service has,
instead of being drawn: so a client whose answer was lost, and the second of two tabs, get the very same one again,
although nothing but hashes is stored. A token also carries the number of its session and a tag, which tells a token
that was once issued here from a guess: only the former may end a session.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

_ID_BYTES, _SECRET_BYTES, _TAG_BYTES = 8, 32, 16
LONGEST = 100  # characters; ours have 75


class NotARefreshToken(Exception):
    """It was never issued here."""


@dataclass(frozen=True)
class RefreshToken:
    session_id: int
    secret: bytes

    @property
    def hash(self) -> str:
        """What is stored of it. The secret is as long as the hash, and drawn: no slow hash makes it any safer."""
        return hashlib.sha256(self.secret).hexdigest()


class RefreshTokens:
    def __init__(self, keys: Sequence[bytes]) -> None:
        """
        :param keys: what tokens are made with is derived from the first, and accepted from all
        """
        self._tag_keys = [_derived(key, b"refresh token tag") for key in keys]
        self._successor_keys = [_derived(key, b"refresh token successor") for key in keys]

    def first(self, session_id: int) -> RefreshToken:
        """A new token, for a new session."""
        return RefreshToken(session_id, secrets.token_bytes(_SECRET_BYTES))

    def successor(self, token: RefreshToken) -> RefreshToken:
        """The one that replaces this token; it is always the same."""
        return self.successors(token)[0]

    def successors(self, token: RefreshToken) -> list[RefreshToken]:
        """All that may have replaced it, the likeliest first: the keys may have changed since."""
        return [RefreshToken(token.session_id, _derived(key, token.secret)) for key in self._successor_keys]

    def write(self, token: RefreshToken) -> str:
        """The token as a client gets it."""
        content = token.session_id.to_bytes(_ID_BYTES) + token.secret
        return base64.urlsafe_b64encode(content + _tag(self._tag_keys[0], content)).rstrip(b"=").decode()

    def read(self, text: str) -> RefreshToken:
        """Raises NotARefreshToken for whatever `write` did not write."""
        try:
            content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise NotARefreshToken from None
        content, tag = content[:-_TAG_BYTES], content[-_TAG_BYTES:]
        issued_here = any(hmac.compare_digest(tag, _tag(key, content)) for key in self._tag_keys)
        if len(content) != _ID_BYTES + _SECRET_BYTES or not issued_here:
            raise NotARefreshToken
        return RefreshToken(int.from_bytes(content[:_ID_BYTES]), content[_ID_BYTES:])


def _tag(key: bytes, content: bytes) -> bytes:
    return _derived(key, content)[:_TAG_BYTES]


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.new(key, purpose, hashlib.sha256).digest()
