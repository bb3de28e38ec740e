"""Refresh tokens: opaque to clients, 256 random bits, of which only a hash is stored.

A token is replaced each time it is used. Its successor is derived from it, with a key that only this service has,
instead of being drawn: so a client whose answer was lost, and the second of two tabs, get the very same one again,
although nothing but hashes is stored.

All tokens of a session have its family in common, another random number. It tells a token that was once issued from
a guess: only who has the former may end a session by using it again. It is not made with a key, so that a token
stays good for as long as its session, however often the keys change.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.ids import LARGEST_ID

_ID_BYTES, _FAMILY_BYTES, _SECRET_BYTES = 8, 16, 32
LONGEST = 100  # characters; ours have 75


class NotARefreshToken(Exception):
    """It does not have the form of one."""


@dataclass(frozen=True)
class RefreshToken:
    session_id: int
    family: bytes
    secret: bytes

    @property
    def hash(self) -> str:
        """What is stored of it. The secret is as long as the hash, and drawn: no slow hash makes it any safer."""
        return hashlib.sha256(self.secret).hexdigest()

    @property
    def family_hash(self) -> str:
        """What is stored of its family."""
        return hashlib.sha256(self.family).hexdigest()

    @classmethod
    def draw(cls, session_id: int) -> "RefreshToken":
        """The first token of a session."""
        return cls(session_id, secrets.token_bytes(_FAMILY_BYTES), secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def read(cls, text: str) -> "RefreshToken":
        """Raises NotARefreshToken for what `write` cannot have written."""
        try:
            content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise NotARefreshToken from None
        number, rest = int.from_bytes(content[:_ID_BYTES]), content[_ID_BYTES:]
        token = cls(number, rest[:_FAMILY_BYTES], rest[_FAMILY_BYTES:])
        if len(token.secret) != _SECRET_BYTES or not 1 <= number <= LARGEST_ID or token.write() != text:
            raise NotARefreshToken
        return token

    def write(self) -> str:
        """The token as a client gets it."""
        content = self.session_id.to_bytes(_ID_BYTES) + self.family + self.secret
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    def successors(self, keys: Sequence[bytes]) -> list["RefreshToken"]:
        """The token that replaces this one, and after it those that a process with another first key may have made."""
        return [RefreshToken(self.session_id, self.family, _derived(key, self.secret)) for key in keys]


def _derived(key: bytes, secret: bytes) -> bytes:
    # The key signs access tokens too; what is made with it for one purpose must be of no use for the other.
    own = hmac.new(key, b"refresh token successor", hashlib.sha256).digest()
    return hmac.new(own, secret, hashlib.sha256).digest()
