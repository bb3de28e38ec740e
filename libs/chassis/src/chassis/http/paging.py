"""Pages of a list: `skip`, `limit` and cursors, and the links of RFC 8288 to other pages."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import AfterValidator, Field

from chassis.ids import LARGEST_ID, Digits

LARGEST_SKIP = 10_000
NO_CURSOR = "This is no cursor from here; begin without one"
_CHECKSUM = 6  # bytes; enough to notice what was cut or mistyped, for a cursor grants nothing

Skip = Annotated[int, Field(ge=0, le=LARGEST_SKIP), Digits]
"""How many rows to leave out, in a query."""

Limit = Annotated[int, Field(ge=1, le=100), Digits]
"""How many rows to answer at most, in a query."""


def write_cursor(position: Any) -> str:
    """A position in a list, as a client gets it: opaque, and worth nothing but the position that it says."""
    written = json.dumps(position, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
    content = written.encode()
    checksum = hashlib.sha256(b"cursor" + content).digest()[:_CHECKSUM]
    return base64.urlsafe_b64encode(checksum + content).rstrip(b"=").decode()


def read_cursor(cursor: str) -> Any:
    """What `write_cursor` was given; raises ValueError with a sentence for people for whatever it did not write.

    The checksum is no secret, so that what is in a cursor has to be validated like any other input.
    """
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)[_CHECKSUM:]
        position = json.loads(content)
        # This refuses a wrong checksum, and with the right one all that JSON can say and this module does not: NaN,
        # which no comparison is true of, and lone surrogates, which are an error in the database.
        if write_cursor(position) == cursor:
            return position
    except (ValueError, RecursionError):
        pass
    raise ValueError(NO_CURSOR)


def _is_id(cursor: str) -> str:
    position = read_cursor(cursor)
    if type(position) is not int or not 0 <= position <= LARGEST_ID:
        raise ValueError(NO_CURSOR)
    return cursor


IdCursor = Annotated[
    str, AfterValidator(_is_id), Field(description="Where to go on; from the `Link` of the page before.")
]
"""A cursor whose position is the id of a row."""


def link_header(path: str, **pages: Mapping[str, Any]) -> str:
    """A `Link` header to pages of the list at `path`, by their relation: `next={"limit": 20, "cursor": "..."}`.

    The addresses are relative: what scheme and host a client used, only the client knows for certain.
    """
    return ", ".join(f'<{path}?{urlencode(parameters)}>; rel="{relation}"' for relation, parameters in pages.items())
