"""Pages of a list: `skip` and `limit`, and the links of RFC 8288 to the neighbouring ones."""

import base64
import hashlib
import json
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import AfterValidator, BeforeValidator, Field

from chassis.models import LARGEST_ID
from chassis.routing import QueryParameters


def _digits_only(value: object) -> object:
    # Without it "1_000", " 7 " and "3.0" would pass as integers.
    if isinstance(value, str) and not (value.isascii() and value.removeprefix("-").isdigit()):
        raise ValueError("Input should be a whole number, written in digits")
    return value


LARGEST_SKIP = 10_000
_CHECKSUM = 6  # bytes; enough to notice what was cut or mistyped, for a cursor grants nothing

Digits = BeforeValidator(_digits_only)
"""For an integer in a path or a query."""

RowId = Annotated[int, Field(ge=1, le=LARGEST_ID, examples=[1]), Digits]
"""The id of a row, in a path."""


def write_cursor(position: Any) -> str:
    """A position in a list, as a client gets it: opaque, and worth nothing but the position that it says."""
    content = json.dumps(position, separators=(",", ":"), sort_keys=True).encode()
    return base64.urlsafe_b64encode(_checksum(content) + content).rstrip(b"=").decode()


def read_cursor(cursor: str) -> Any:
    """What `write_cursor` was given; raises ValueError with a sentence for people for whatever it did not write."""
    try:
        decoded = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        checksum, content = decoded[:_CHECKSUM], decoded[_CHECKSUM:]
        if checksum == _checksum(content):
            # The checksum is no signature: whoever wants to can make one, for whatever is in it.
            return json.loads(content)
    except (ValueError, RecursionError):
        pass
    raise ValueError("This is no cursor from here; begin without one")


def _is_id(cursor: str) -> str:
    position = read_cursor(cursor)
    if type(position) is not int or not 0 <= position <= LARGEST_ID:
        raise ValueError("This is no cursor from here; begin without one")
    return cursor


Limit = Annotated[int, Field(ge=1, le=100, description="Rows to answer at most."), Digits]

IdCursor = Annotated[
    str, AfterValidator(_is_id), Field(description="Where to go on; from the `Link` of the page before.")
]
"""A cursor whose position is the id of a row."""


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(b"cursor" + content).digest()[:_CHECKSUM]


class Page(QueryParameters):
    skip: Annotated[int, Digits] = Field(default=0, ge=0, le=LARGEST_SKIP, description="Rows to leave out.")
    limit: Annotated[int, Digits] = Field(default=20, ge=1, le=100, description="Rows to answer at most.")


def next_link(path: str, page: Page) -> str | None:
    """The `Link` header to the page after this one; none where `skip` would go beyond its range.

    The address is relative: what scheme and host a client used, only the client knows for certain.
    """
    following = page.model_copy(update={"skip": page.skip + page.limit})
    return f'<{path}?{urlencode(following.model_dump())}>; rel="next"' if following.skip <= LARGEST_SKIP else None
