"""Pagination: `skip`, `limit` and cursors, and `Link` headers (RFC 8288) to other pages."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import AfterValidator, Field

from chassis.ids import LARGEST_ID, Digits

LARGEST_SKIP = 10_000
INVALID_CURSOR = "Invalid cursor; start again without one"
_CHECKSUM = 6  # bytes; enough to detect truncated or mistyped cursors, because a cursor grants no access

CURSOR_SCHEMA: dict[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{10,}$"}
"""The JSON Schema of a cursor: base64url of a checksum and of JSON, which has at least one byte."""

Skip = Annotated[int, Field(ge=0, le=LARGEST_SKIP), Digits]
"""The number of rows to skip, in a query."""

Limit = Annotated[int, Field(ge=1, le=100), Digits]
"""The maximum number of rows to return, in a query."""


def write_cursor(position: Any) -> str:
    """Encode a position in a list as an opaque string for clients."""
    encoded = json.dumps(position, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
    content = encoded.encode()
    checksum = hashlib.sha256(b"cursor" + content).digest()[:_CHECKSUM]
    return base64.urlsafe_b64encode(checksum + content).rstrip(b"=").decode()


def read_cursor(cursor: str) -> Any:
    """Decode what `write_cursor` encoded; raises ValueError, with a message for people, for anything else.

    The checksum uses no secret, so validate the position like any other input.
    """
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)[_CHECKSUM:]
        position = json.loads(content)
        # Rejects wrong checksums, and JSON that this module never writes: NaN, which never compares as true, and lone
        # surrogates, which cause an error in the database.
        if write_cursor(position) == cursor:
            return position
    except (ValueError, RecursionError):
        pass
    raise ValueError(INVALID_CURSOR)


def _is_id(cursor: str) -> str:
    position = read_cursor(cursor)
    if type(position) is not int or not 0 <= position <= LARGEST_ID:
        raise ValueError(INVALID_CURSOR)
    return cursor


IdCursor = Annotated[
    str,
    AfterValidator(_is_id),
    Field(
        description="The position of the page, from the `Link` header of the previous one.",
        json_schema_extra=CURSOR_SCHEMA,
    ),
]
"""A cursor whose position is the id of a row."""


def link_header(path: str, **pages: Mapping[str, Any]) -> str:
    """A `Link` header to pages of the list at `path`, by relation: `next={"limit": 20, "cursor": "..."}`.

    The URLs are relative, because behind a proxy only the client knows its scheme and host.
    """
    return ", ".join(f'<{path}?{_query(parameters)}>; rel="{relation}"' for relation, parameters in pages.items())


def _query(parameters: Mapping[str, Any]) -> str:
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in parameters.items()}
    # A parameter with several values is repeated.
    return urlencode(texts, doseq=True)
