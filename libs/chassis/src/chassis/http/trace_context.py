"""W3C Trace Context, https://www.w3.org/TR/trace-context/, for services that do not take part in tracing themselves.

Such a service sends the headers of a request on, as they came, with the calls that it makes for it.
"""

import re

from starlette.datastructures import Headers

_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,200})?"
)
_TRACESTATE = re.compile(r"[ -~]{1,512}")  # Everybody has to send on this many characters; more may be dropped.


def read(headers: Headers) -> tuple[str, dict[str, str]] | None:
    """The trace id, and the headers to be sent on; None where there is no sane `traceparent`."""
    given = headers.getlist("traceparent")
    sane = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    # Only a version that is newer than ours may have more behind the flags.
    if sane is None or (sane[1] == "00" and sane[3]):
        return None
    state = ",".join(headers.getlist("tracestate"))
    return sane[2], {"traceparent": given[0], **({"tracestate": state} if _TRACESTATE.fullmatch(state) else {})}
