"""Service keys: how other services and gateways prove who they are."""

import hmac
from collections.abc import Mapping


class ServiceKeys:
    def __init__(self, keys: Mapping[str, str]) -> None:
        """:param keys: by the name of the service; none for a user service that everyone may ask"""
        self._keys = {name: key.encode() for name, key in keys.items()}

    @property
    def required(self) -> bool:
        return bool(self._keys)

    def name_of(self, sent: str) -> str | None:
        """The name of the service that this key belongs to, or None for an unknown key."""
        # Compares every key in constant time, so response times reveal nothing about the keys.
        names = [name for name, known in self._keys.items() if hmac.compare_digest(known, sent.encode())]
        return names[0] if names else None
