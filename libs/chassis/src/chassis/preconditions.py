"""Preconditions of a change: which versions of a row it may change (RFC 9110, section 13.1)."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from chassis.errors import PreconditionFailed


@dataclass(frozen=True)
class Precondition:
    """The versions that `If-Match` and `If-None-Match` permit."""

    match: AbstractSet[int] | None = None
    """The versions in If-Match; None for any."""
    weak: AbstractSet[int] = frozenset()
    """The versions whose weak tags are in If-Match, which never match."""
    none_match: AbstractSet[int] | None = frozenset()
    """The versions in If-None-Match; None for any."""

    def check(self, version: int) -> None:
        """Raise PreconditionFailed unless the request permits a change of this version."""
        if self.match is not None and version not in self.match:
            raise PreconditionFailed(version, _WEAK.format(version) if version in self.weak else None)
        if self.none_match is None or version in self.none_match:
            raise PreconditionFailed(version, _NONE_MATCH)


ANY_VERSION = Precondition()

_WEAK = (
    'If-Match has the weak tag W/"{0}", and weak tags never match. A proxy that compresses responses may have weakened '
    'it: send "{0}" instead. Nothing was changed.'
)
_NONE_MATCH = (
    "If-None-Match matches the current version. Nothing was changed. To change only the version that you have read, "
    "send its ETag in If-Match."
)
