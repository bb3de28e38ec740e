"""Refresh tokens: opaque to clients, with a 256-bit secret of which only a hash is stored.

A token is replaced each time it is used. Its successor is derived from it with a key of this service, not generated at
random. A client whose response was lost, or a second tab, can therefore get the same successor again, although only
hashes are stored.

All tokens of a session share a second random number, the family. It distinguishes reused tokens from guesses: a reused
token revokes the session, a guess must not. The family doesn't depend on a key, so key rotation leaves tokens valid.
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
MAX_LENGTH = 100  # characters; issued tokens have 75


class MalformedRefreshToken(Exception):
    """The text is not a refresh token."""


@dataclass(frozen=True)
class RefreshToken:
    session_id: int
    family: bytes
    secret: bytes

    @property
    def hash(self) -> str:
        """The stored hash of the secret. The secret has 256 random bits, so a slow hash would add no security."""
        return hashlib.sha256(self.secret).hexdigest()

    @property
    def family_hash(self) -> str:
        """The stored hash of the family."""
        return hashlib.sha256(self.family).hexdigest()

    @classmethod
    def generate(cls, session_id: int) -> "RefreshToken":
        """Generate the first token of a session."""
        return cls(session_id, secrets.token_bytes(_FAMILY_BYTES), secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> "RefreshToken":
        """Parse the text of a token; raises MalformedRefreshToken for text that `format` can't return."""
        try:
            content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise MalformedRefreshToken from None
        number, rest = int.from_bytes(content[:_ID_BYTES]), content[_ID_BYTES:]
        token = cls(number, rest[:_FAMILY_BYTES], rest[_FAMILY_BYTES:])
        if len(token.secret) != _SECRET_BYTES or not 1 <= number <= LARGEST_ID or token.format() != text:
            raise MalformedRefreshToken
        return token

    def format(self) -> str:
        """The token as text, as clients get it."""
        content = self.session_id.to_bytes(_ID_BYTES) + self.family + self.secret
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    def successors(self, keys: Sequence[bytes]) -> list["RefreshToken"]:
        """The successor under each key: first the one to issue, then those that processes with other keys may issue."""
        return [RefreshToken(self.session_id, self.family, _derive(key, self.secret)) for key in keys]


def _derive(key: bytes, secret: bytes) -> bytes:
    # The key also signs access tokens. A separate subkey keeps the two uses independent.
    subkey = hmac.new(key, b"refresh token successor", hashlib.sha256).digest()
    return hmac.new(subkey, secret, hashlib.sha256).digest()
